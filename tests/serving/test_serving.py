"""What was trained is exported and served, and nothing that clients or operators do hurts it."""

import asyncio
import base64
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.support import attacks
from tests.support.projects import FRAMEWORKS, Project, by_framework, rendered, times, write
from tests.support.proofs import once
from tests.support.releases import ROOT
from tests.support.services import Answer, Service, connect, free_port, serving

SETTLED = {200, 413, 429, 504}  # what a service that has too much to do may answer
TRAIN = """
import sys
from my_project import config, train
from my_project.serving import exported
options = "--out_dir runs/default --max_steps 20 --num_threads 1 --model.width 8 --precision fp32"
sys.argv = ["train", *options.split()]
cfg, _ = config.parse("train")
train.run(cfg)
exported.export(cfg.out_dir, cfg, ["torch-export", "onnx", "torchscript"])
"""
ANSWERS = """
import json, sys
from pathlib import Path
import numpy as np
from my_project.serving.exported import load_exported, load_model
from my_project.task import data, inputs
from my_project.task.settings import DataConfig
run = Path("runs/default")
test = data.open_data(DataConfig()).test
images = inputs.from_batch(test.batch([*range(len(test))], None))["images"]
noise = np.random.default_rng(1).integers(256, size=(1000 - len(images), *images.shape[1:]), dtype=np.uint8)
images = np.concatenate([images, noise])
models = {name: load_exported(run, name) for name in ("torch-export", "onnx", "torchscript")}
models["plain"] = load_model(run, "plain")
answers = {name: model.run({"images": images})["probabilities"].tolist() for name, model in models.items()}
json.dump({"images": images.tolist(), "answers": answers}, open("answers.json", "w"))
"""


GetProject = Callable[[str, str], Project]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> GetProject:
    """A project of a framework with a service; its run in `runs/default` is exported."""

    @once
    def make(framework: str, service: str) -> Project:
        folder = tmp_path_factory.mktemp(f"{framework}-{service}")
        answers = {"framework": framework, "serving": service, "monitoring": "prometheus"}
        made = Project(write(rendered(answers), folder), "my_project")
        if service == "fastapi":
            made.run_fork("-c", TRAIN)
            made.run_fork("-c", ANSWERS)
        else:  # has the same files, so it serves the same run
            shutil.copytree(make(framework, "fastapi").folder / "runs", folder / "runs")
        return made

    return make


@pytest.fixture(scope="module")
def fast(project: GetProject) -> Project:
    return project(FRAMEWORKS[0], "fastapi")


def run_of(project: Project) -> Path:
    return project.folder / "runs/default"


def body(images: Any) -> bytes:
    return json.dumps({"inputs": images}).encode()


def known(project: Project) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """Images, and what the plain model answers to them."""
    told = json.loads((project.folder / "answers.json").read_text())
    return told["images"], np.array(told["answers"]["plain"])


@by_framework(20)
def test_every_exported_format_gives_the_answers_of_the_plain_model(
    project: GetProject, framework: str
) -> None:
    answers = json.loads((project(framework, "fastapi").folder / "answers.json").read_text())["answers"]
    plain = np.array(answers.pop("plain"))
    assert len(answers) == 3
    assert plain.shape == (1000, 10)
    for name, given in answers.items():
        assert np.abs(np.array(given) - plain).max() <= 1e-5, name
        assert (np.array(given).argmax(1) == plain.argmax(1)).all(), name


@pytest.mark.parametrize("service", ["fastapi", "litserve"])
@by_framework(21, 23)
def test_served_answers_are_those_of_the_model_alone_and_together_and_in_order(
    project: GetProject, framework: str, service: str
) -> None:
    images, plain = known(project(framework, "fastapi"))
    number = times(192, 1000)
    ours = project(framework, service)
    with serving(ours, run_of(ours)) as live:
        together = [live.ask("/predict", body(images[i : i + 64])) for i in range(0, number, 64)]
        alone = [live.ask("/predict", body([image])) for image in images[: times(20, 1000)]]
        assert live.stop() == 0
    assert {status for status, _ in together + alone} == {200}
    for answers in (together, alone):
        given = [answer for _, told in answers for answer in told["predictions"]]
        expected = plain[: len(given)]
        assert [answer["index"] for answer in given] == expected.argmax(1).tolist()
        assert np.abs(np.array([answer["probability"] for answer in given]) - expected.max(1)).max() <= 1e-5


def test_no_body_makes_the_service_fail(fast: Project) -> None:
    number = times(5_000, 100_000)
    said = fast.run_fork(ROOT / "tests/support/serving_bodies.py", "my_project", run_of(fast), str(number))
    statuses = {int(status): count for status, count in json.loads(said.splitlines()[-1]).items()}
    assert sum(statuses.values()) == number
    assert max(statuses) < 500, statuses
    assert set(statuses) >= {200, 413, 422}, statuses


def test_nothing_that_the_api_description_allows_or_forbids_makes_the_service_fail(fast: Project) -> None:
    with serving(fast, run_of(fast)) as live:
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"),
                f"http://127.0.0.1:{live.port}/openapi.json",
                *("--checks", "not_a_server_error", "--max-examples", str(times(50, 1000)), "--seed", "1"),
            ],
            cwd=fast.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert live.ask("/readyz")[0] == 200


async def hammer(
    port: int, content: bytes, clients: int, enough: Callable[[], bool], may_break: bool = False
) -> list[Answer]:
    """Let clients ask one request after another until it is enough, or the service sends them elsewhere."""

    async def client() -> list[Answer]:
        connection = await connect(port)
        answers = []
        with suppress(ConnectionError, asyncio.IncompleteReadError) if may_break else nullcontext():
            while not enough():
                answers.append(await connection.ask("/predict", content))
                if answers[-1].headers.get("connection") == "close":
                    break
        connection.writer.close()
        return answers

    return [
        answer for answers in await asyncio.gather(*(client() for _ in range(clients))) for answer in answers
    ]


def test_overload_is_turned_away_and_memory_stays(fast: Project) -> None:
    content = body(np.zeros((64, 1, 8, 8), int).tolist())
    seconds = times(4, 60)
    with serving(fast, run_of(fast), "--max_queue", 4, "--deadline_s", 20) as live:
        warm = iter(range(400))
        asyncio.run(hammer(live.port, content, 4, lambda: next(warm, None) is None))
        before, end = live.memory(), time.monotonic() + seconds
        answers = asyncio.run(hammer(live.port, content, 40, lambda: time.monotonic() > end))
        statuses = Counter(answer.status for answer in answers)
        assert set(statuses) <= SETTLED, statuses
        assert set(statuses) >= {200, 429}, statuses
        assert all("retry-after" in answer.headers for answer in answers if answer.status == 429)
        assert live.memory() - before < 64 * 2**20
        assert live.ask("/predict", content)[0] == 200


def test_a_slow_client_and_an_endless_body_hurt_nobody(fast: Project) -> None:
    async def scenario(port: int) -> None:
        slow = [await connect(port) for _ in range(20)]
        for connection in slow:
            connection.writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        other = await connect(port)
        assert (await other.ask("/predict", body(np.zeros((1, 1, 8, 8), int).tolist()))).status == 200
        assert [(await connection.read()).status for connection in slow] == [504] * 20

        endless = await connect(port)
        endless.writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = asyncio.create_task(endless.read())
        sent = 0
        try:
            while sent < 2**30 and not answer.done():
                endless.writer.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
                sent += 2**16
                await endless.writer.drain()
        except ConnectionError:
            pass  # the service has closed it
        # What was still on its way when the service closed may take the answer away: RFC 9112, section 9.6.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            assert (await answer).status == 413
        assert sent < 2**27

    with serving(fast, run_of(fast), "--deadline_s", 1, "--max_body_mb", 1) as live:
        before = live.memory()
        asyncio.run(scenario(live.port))
        assert live.memory() - before < 64 * 2**20


@pytest.mark.cold
@pytest.mark.soak
def test_a_service_that_is_told_to_end_loses_no_request(fast: Project) -> None:
    content = body(np.zeros((4, 1, 8, 8), int).tolist())
    for _ in range(times(2, 100)):
        with serving(fast, run_of(fast), "--drain_s", 0.5, cold=True) as live:

            async def scenario(live: Service = live) -> list[Answer]:
                clients = asyncio.create_task(hammer(live.port, content, 16, lambda: False))
                await asyncio.sleep(0.5)
                live.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.1)
                probe = await connect(live.port)
                assert (await probe.ask("/readyz")).status == 503
                assert (await (await connect(live.port)).ask("/livez")).status == 200
                return await clients

            answers = asyncio.run(scenario())
            assert {answer.status for answer in answers} == {200}
            assert live.process.wait(60) == 0


def test_litserve_turns_away_what_is_too_much_or_too_late_and_ends_when_told(
    project: GetProject, tmp_path: Path
) -> None:
    """Those it has no answer for at its end lose their connection, as its project tells."""
    slow = Project(tmp_path / "slow", "my_project")
    shutil.copytree(project(FRAMEWORKS[0], "litserve").folder, slow.folder)
    service = slow.folder / "src/my_project/serving/service.py"
    call = "        return self.model.run(arrays)\n"
    assert call in service.read_text()
    service.write_text(service.read_text().replace(call, f"        __import__('time').sleep(0.05)\n{call}"))
    content = body(np.zeros((1, 1, 8, 8), int).tolist())
    with serving(slow, run_of(slow), "--max_queue", 16, "--deadline_s", 0.3) as live:
        end = time.monotonic() + times(3, 60)
        answers = asyncio.run(hammer(live.port, content, 40, lambda: time.monotonic() > end))
        statuses = Counter(answer.status for answer in answers)
        assert set(statuses) <= SETTLED, statuses
        assert set(statuses) >= {200, 429, 504}, statuses
        assert all("retry-after" in answer.headers for answer in answers if answer.status == 429)
        assert live.ask("/livez")[0] == 200

        async def scenario() -> list[Answer]:
            clients = asyncio.create_task(hammer(live.port, content, 4, lambda: False, may_break=True))
            await asyncio.sleep(0.5)
            live.process.send_signal(signal.SIGTERM)
            return await clients

        assert {answer.status for answer in asyncio.run(scenario())} <= SETTLED
        assert live.process.wait(60) == 0


def test_litserve_says_that_it_is_not_ready_for_as_long_as_it_drains(project: GetProject) -> None:
    ours, content = project(FRAMEWORKS[0], "litserve"), body(np.zeros((1, 1, 8, 8), int).tolist())
    with serving(ours, run_of(ours), "--drain_s", 5) as live:
        begin = time.monotonic()
        live.process.send_signal(signal.SIGTERM)
        while live.ask("/readyz")[0] == 200:
            time.sleep(0.01)
        assert live.ask("/readyz") == (503, {"status": "draining"})
        assert live.ask("/predict", content)[0] == 200
        assert live.process.wait(60) == 0
        assert time.monotonic() - begin >= 5
    with serving(ours, run_of(ours), "--drain_s", 600) as live:
        live.process.send_signal(signal.SIGTERM)
        while live.ask("/readyz")[0] == 200:
            time.sleep(0.01)
        live.process.send_signal(signal.SIGTERM)  # a second one does not wait
        assert live.process.wait(60) == 0


def with_bias(project: Project, label: int, name: str) -> Path:
    """An export that answers with one label whatever it is asked."""
    script = f"""
import json, shutil, torch
from pathlib import Path
from my_project import export
run = Path("runs/{name}")
shutil.copytree("runs/default", run)
weights = torch.load(run / "best.pt", weights_only=True)
weights["head.bias"][{label}] += 1000
torch.save(weights, run / "best.pt")
import sys; sys.argv = ["export", "--run", str(run), "--format", "onnx"]
export.main()
"""
    project.run_fork("-c", script)
    return project.folder / "runs" / name / "export"


@pytest.mark.soak
def test_another_model_takes_over_under_load_and_a_bad_one_does_not(fast: Project) -> None:
    content = body(np.zeros((8, 1, 8, 8), int).tolist())
    exports = {label: with_bias(fast, label, f"only-{label}") for label in (3, 5)}
    live_run = fast.folder / "runs/live"
    shutil.copytree(fast.folder / "runs/only-3", live_run)

    def put(source: Path) -> None:
        shutil.rmtree(live_run / "export")
        shutil.copytree(source, live_run / "export")

    with serving(fast, live_run) as live:

        async def scenario() -> list[Answer]:
            done = asyncio.Event()
            clients = asyncio.create_task(hammer(live.port, content, 8, done.is_set))
            for number in range(times(4, 50)):
                put(exports[(5, 3)[number % 2]])
                await reload(live, "done", number + 1)
            damaged = live_run / "export/model.onnx"
            damaged.write_bytes(damaged.read_bytes()[:-100] + bytes(100))
            await reload(live, "failed", 1)
            done.set()
            return await clients

        answers = asyncio.run(scenario())
        assert live.ask("/predict", content)[1]["predictions"][0]["index"] == 3
    assert {answer.status for answer in answers} == {200}
    labels = [{told["index"] for told in answer.json["predictions"]} for answer in answers]
    assert {tuple(found) for found in labels} == {(3,), (5,)}


async def reload(live: Service, outcome: str, count: int) -> None:
    live.process.send_signal(signal.SIGHUP)
    for _ in range(600):
        name = f'serving_reloads_total{{outcome="{outcome}"}}'
        if await asyncio.to_thread(live.metric, name) == count:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no reload that is {outcome}")


@pytest.mark.soak
def test_memory_stays_flat(fast: Project) -> None:
    content = body(np.zeros((4, 1, 8, 8), int).tolist())
    with serving(fast, run_of(fast)) as live:

        def for_seconds(seconds: float) -> int:
            end = time.monotonic() + seconds
            answers = asyncio.run(hammer(live.port, content, 8, lambda: time.monotonic() > end))
            assert {answer.status for answer in answers} == {200}
            return len(answers)

        for_seconds(times(2, 60))
        before = live.memory()
        for_seconds(times(3, 600))
        assert live.memory() - before < 16 * 2**20
        assert live.metric('serving_requests_total{path="/predict",status="200"}') > 0
        assert live.metric("serving_batch_size_count") > 0
        assert live.metric("serving_queue_requests") == 0


def test_a_service_without_a_model_says_what_to_do(fast: Project, tmp_path: Path) -> None:
    for options, told in (((), "Export it first"), (("--backend", "plain"), "Train first")):
        done = fast.start_fork(
            "-m", "my_project.serve", "--run", tmp_path, "--port", str(free_port()), *options
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert told in done.stderr


QUICK: tuple[str, ...] = ("many keys", "empty lists", "large images", "scans of a JPEG", "a TIFF's tile")
QUICK += (
    "a long header",
    "many headers",
    "trailers",
    "pipelined requests",
    "idle connections",
    "slow headers",
)


@pytest.mark.parametrize("service", ["fastapi", "litserve"])
def test_attacks_neither_take_memory_nor_keep_others_from_their_answers(
    project: GetProject, service: str
) -> None:
    """A project of digits holds less than a tenth of what each of them made it hold before it had bounds."""
    ours, done = project(FRAMEWORKS[0], service), {}
    with attacks.attacked(ours) as live:
        for name in (*QUICK, *times(0, 1) * tuple(set(attacks.attacks()) - set(QUICK))):
            damage = attacks.suffer(live, attacks.attacks()[name], attacks.probes())
            statuses = sum((wait.statuses for wait in damage.waits.values()), Counter[int]())
            done[name] = (damage.grown // 2**20, dict(statuses))
    # Some end before anybody has asked.
    bad = {name: found for name, found in done.items() if found[0] >= 100 or not set(found[1]) <= {200}}
    assert not bad


def test_all_files_of_a_request_share_the_memory_that_decoding_may_take(fast: Project) -> None:
    file = base64.b64encode(attacks.image("PNG", (64, 64))).decode()  # takes 1/64 MB
    with serving(fast, run_of(fast), "--max_decoded_mb", 2.5 / 64) as live:
        assert live.ask("/predict", body([file] * 2))[0] == 200
        status, told = live.ask("/predict", body([file] * 3))
        assert status == 422, told
        assert told["detail"].startswith("inputs[2]")
        assert live.ask("/predict", body([file] * 2))[0] == 200  # of each request anew


def test_a_key_protects_what_it_should_behind_a_proxy_that_strips_a_prefix(fast: Project) -> None:
    content = body(np.zeros((1, 1, 8, 8), int).tolist())
    key: dict[str, Any] = {"X-API-Key": "secret"}
    options = ("--root_path", "/digits", "--key_for", "all")
    with serving(fast, run_of(fast), *options, SERVING_API_KEY="secret") as live:
        for path in ("/predict", "/digits/predict"):  # as the proxy sends it, and as it was before
            assert live.ask(path, content)[0] == 401
            assert live.ask(path, content, **key)[0] == 200
        for path in ("/metrics", "/docs", "/", "/openapi.json", "/model", "/digits/model"):
            assert live.ask(path)[0] == 401
            assert live.ask(path, **key)[0] == 200
        assert [live.ask(path)[0] for path in ("/livez", "/readyz", "/health")] == [200] * 3
        assert live.ask("/openapi.json", **key)[1]["servers"] == [{"url": "/digits"}]


def test_litserve_has_the_same_addresses_and_none_of_its_own(project: GetProject) -> None:
    ours, key = project(FRAMEWORKS[0], "litserve"), cast("dict[str, Any]", {"X-API-Key": "secret"})
    with serving(ours, run_of(ours), "--root_path", "/digits", SERVING_API_KEY="secret") as live:
        assert [live.ask(path)[0] for path in ("/docs", "/", "/openapi.json", "/metrics")] == [200] * 4
        browser = cast("dict[str, Any]", {"Accept-Encoding": "gzip"})  # LitServe compresses for it
        assert [live.ask(path, **browser)[0] for path in ("/", "/docs", "/", "/docs")] == [200] * 4
        assert [live.ask(path)[0] for path in ("/info", "/model", "/digits/model", "/redoc")] == [401] * 4
        assert [live.ask(path, **key)[0] for path in ("/info", "/redoc")] == [404] * 2
        api = live.ask("/openapi.json")[1]
    assert api["servers"] == [{"url": "/digits"}]
    assert set(api["paths"]) == {
        "/predict",
        "/example",
        "/livez",
        "/readyz",
        "/health",
        "/model",
        "/metrics",
    }


@pytest.mark.cold
def test_a_service_for_others_without_a_key_says_so_and_an_empty_key_is_an_error(
    fast: Project, tmp_path: Path
) -> None:
    command = ("-m", "my_project.serve", "--host", "0.0.0.0", "--run", tmp_path)  # has no model, so it ends
    assert fast.start(*command).stderr.startswith("WARNING: all who can reach 0.0.0.0 can use this")
    (tmp_path / "key").write_text("\n")
    empty: list[tuple[tuple[str | Path, ...], dict[str, Any]]] = [((), {"SERVING_API_KEY": " "})]
    for options, settings in [*empty, (("--api_key_file", tmp_path / "key"), {})]:
        done = fast.start(*command, *options, **settings)
        assert (done.returncode, "there is no key in it" in done.stderr) == (1, True)


@pytest.mark.parametrize("service", ["fastapi", "litserve"])
def test_probes_by_head_and_proxies_that_keep_connections_get_on_with_it(
    project: GetProject, service: str
) -> None:
    ours = project(FRAMEWORKS[0], service)

    async def scenario(port: int) -> None:
        connection = await connect(port)
        for path in ("/livez", "/readyz", "/health", "/model", "/metrics", "/openapi.json", "/", "/docs"):
            asked = await connection.ask(path)
            connection.writer.write(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await connection.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), (path, head)
            if path != "/metrics":  # which counts these, too
                assert f"\r\ncontent-length: {len(asked.body)}\r\n".encode() in head, path
        connection.writer.write(b"HEAD /predict HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await connection.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405")
        for path in ("/livez/", "/predict/", "/digits/livez/", "/model/"):
            answer = await connection.ask(path)
            assert (answer.status, "location" in answer.headers) == (404, False), path
        await asyncio.sleep(6)  # more than the 5 s after which uvicorn would close
        assert (await connection.ask("/livez")).status == 200

    with serving(ours, run_of(ours), "--root_path", "/digits") as live:
        asyncio.run(scenario(live.port))

    async def wait_for_the_end(port: int) -> None:
        connection = await connect(port)
        assert (await connection.ask("/livez")).status == 200
        assert await asyncio.wait_for(connection.reader.read(), 30) == b""

    with serving(ours, run_of(ours), "--keep_alive_s", 1) as live:
        asyncio.run(wait_for_the_end(live.port))
