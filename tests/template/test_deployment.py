"""Images, pipelines and dashboards hold to the rules of what reads them, and what they say is true."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
import yaml

from mlscaffold.catalogue.questions import Answers
from tests.support.projects import CATALOGUE, SOAK, Project, Rendered, by_framework, rendered, tool, write
from tests.support.proofs import once
from tests.support.releases import clean_settings, free_ports, uv

SERVINGS = [str(value) for value in CATALOGUE["serving"].values]
MONITORINGS = [str(value) for value in CATALOGUE["monitoring"].values]
SCRIPTS = Path(sys.executable).parent
PROMETHEUS = shutil.which("prometheus")


DEPLOYED = ("Dockerfile", "compose.yaml", ".github/workflows/tests.yml", ".gitlab-ci.yml")
PIPELINES = [(ci, docker) for ci in ("github", "gitlab") for docker in (False, True)]


@once
def packed() -> list[Rendered]:
    """Every project whose images differ."""
    return [
        rendered({"docker": True, "serving": serving, "monitoring": monitoring})
        for serving in SERVINGS
        for monitoring in MONITORINGS
    ]


def dockerfile(project: Rendered) -> list[tuple[str, str]]:
    """The instructions of an image, each with what follows it."""
    text = re.sub(r"^#.*\n", "", project.files["Dockerfile"].replace("\\\n", ""), flags=re.MULTILINE)
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_hadolint_passes_on_every_dockerfile(tmp_path: Path) -> None:
    for project in packed():
        write(project, tmp_path)
        done = subprocess.run(
            [SCRIPTS / "hadolint", "Dockerfile"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("compose-spec", "compose.yaml"),
        ("github-workflows", ".github/workflows/tests.yml"),
        ("dependabot", ".github/dependabot.yml"),
        ("gitlab-ci", ".gitlab-ci.yml"),
        ("renovate", "renovate.json"),
    ],
)
def test_a_file_for_a_service_is_what_its_schema_says(schema: str, file: str, tmp_path: Path) -> None:
    projects = [*packed(), *(rendered({"ci": ci, "docker": docker}) for ci, docker in PIPELINES)]
    found = [project for project in projects if file in project.files]
    assert found
    for number, project in enumerate(found):
        folder = write(project, tmp_path / str(number))
        command = ("check_jsonschema", "--builtin-schema", f"vendor.{schema}", folder / file)
        assert tool(*command, cwd=folder) == ""


def test_an_image_gets_what_it_copies_and_is_nobody_elses() -> None:
    for project in packed():
        instructions = dockerfile(project)
        ignored = project.files[".dockerignore"].splitlines()
        copies = [rest.split()[:-1] for word, rest in instructions if word == "COPY" and "--from" not in rest]
        names = {name.rstrip("*") for names in copies for name in names}
        assert {f"!{name}" for name in names} <= set(ignored)
        assert names - {"uv.lock"} <= {name.split("/")[0] for name in project.files}
        assert ("USER", "1000") in instructions
        served = project.answers["serving"] in ("fastapi", "litserve")
        assert served == ("HEALTHCHECK" in dict(instructions))
        assert f"my_project.{'serve' if served else 'train'}" in dict(instructions)["CMD"]


class Alive(BaseHTTPRequestHandler):
    """A service that says that it lives."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def test_an_image_asks_its_own_service_for_its_health_and_no_proxy() -> None:
    """Of a host whose docker gives every container a proxy."""
    command = json.loads(
        dict(dockerfile(rendered({"docker": True, "serving": "fastapi"})))["HEALTHCHECK"].split("CMD ")[1]
    )
    assert "127.0.0.1:8000" in command[-1]
    with HTTPServer(("127.0.0.1", 0), Alive) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")
        for port, code in ((server.server_port, 0), (9, 1)):
            words = [sys.executable, *command[1:-1], command[-1].replace("8000", str(port))]
            done = subprocess.run(words, env=clean_settings() | settings, capture_output=True, check=False)
            assert done.returncode == code, done.stderr
        server.shutdown()


def ci_commands(files: dict[str, str]) -> list[str]:
    """What the pipeline of a project runs."""
    if ".gitlab-ci.yml" in files:
        return [str(line) for line in yaml.safe_load(files[".gitlab-ci.yml"])["tests"]["script"]]
    steps = yaml.safe_load(files[".github/workflows/tests.yml"])["jobs"]["tests"]["steps"]
    return [str(step["run"]) for step in steps if "run" in step]


def test_both_pipelines_run_the_same_commands_and_those_of_the_readme() -> None:
    github, gitlab = rendered({"ci": "github"}), rendered({"ci": "gitlab"})
    assert ci_commands(github.files) == ci_commands(gitlab.files)
    readme = re.split(r"\n| && ", github.files["README.md"])
    assert set(ci_commands(github.files)[1:]) <= set(readme)


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="make soak")
@by_framework()
def test_the_commands_of_a_pipeline_pass(framework: str, tmp_path: Path) -> None:
    """But for the installation, which `test_install` does."""
    project = write(rendered({"ci": "github", "framework": framework}), tmp_path)
    for command in ci_commands(rendered({"ci": "github"}).files)[1:]:
        assert tool(*command.split(), cwd=project) == "", command


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="make soak")
@pytest.mark.parametrize("locked", [False, True], ids=["newest", "locked"])
def test_the_commands_of_an_image_give_a_project_that_trains(locked: bool, tmp_path: Path) -> None:
    """Without Docker: each RUN of the build stage, in a clean environment, after each COPY."""
    project = rendered({"docker": True})
    source = write(project, tmp_path / "source")
    if locked:
        uv("lock", "--directory", source, UV_NO_SOURCES="1")  # of what any machine reaches
    build, venv = tmp_path / "build", tmp_path / "venv"
    build.mkdir()
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    settings = clean_settings() | {"VIRTUAL_ENV": str(venv), "PATH": path, "UV_LINK_MODE": "copy"}
    stage = dockerfile(project)[: [word for word, _ in dockerfile(project)].index("COPY", 10)]
    for word, rest in stage:
        if word == "COPY" and "--from" not in rest:
            for file in (file for pattern in rest.split()[:-1] for file in source.glob(pattern)):
                (shutil.copytree if file.is_dir() else shutil.copy)(file, build / file.name)
        if word == "RUN" and "useradd" not in rest:
            command = rest.replace('pip install --no-cache-dir "uv>=0.9,<1" && ', "")
            subprocess.run(command, shell=True, cwd=build, env=settings, check=True)
    train = (venv / "bin/python", "-m", "my_project.train", "--max_steps", "2", "--out_dir", "run")
    subprocess.run(train, cwd=tmp_path, env=clean_settings() | {"CUDA_VISIBLE_DEVICES": ""}, check=True)
    assert (tmp_path / "run/best.pt").exists()


def expressions(project: Rendered) -> Iterator[tuple[str, str]]:
    """What the dashboards ask Prometheus for, with the names of their panels."""
    for name, text in project.files.items():
        if name.startswith("monitoring/grafana/dashboards/"):
            for panel in json.loads(text)["panels"]:
                for target in panel["targets"]:
                    yield f"{name}: {panel['title']}", target["expr"]


def test_what_others_run_for_a_project_is_pinned_and_a_bot_renews_it() -> None:
    """Actions by commit, images by digest; neither leaves credentials behind."""
    for ci, docker in PIPELINES:
        files = rendered({"ci": ci, "docker": docker, "serving": "fastapi", "monitoring": "prometheus"}).files
        text = "\n".join(files[name] for name in DEPLOYED if name in files)
        actions = re.findall(r"uses: *(\S+)", text)
        images = re.findall(r"image: *(\S+)|^FROM (\S+:\S+)", text, flags=re.MULTILINE)
        assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in actions), actions
        assert all(re.search(r":[\d.v]+\S*@sha256:[0-9a-f]{64}$", "".join(image)) for image in images), images
        assert text.count("actions/checkout") == text.count("persist-credentials: false") == (ci == "github")
        assert (len(images) > 0) == (docker or ci == "gitlab")
        renewed = str(files.get(".github/dependabot.yml", "")) + str(files.get("renovate.json", ""))
        for place in {"github": ["github-actions"], "gitlab": ["gitlabci"]}[ci] + ["docker-compose"] * docker:
            assert place in renewed


def test_deployment_files_know_no_second_index_and_no_password() -> None:
    for ci, docker in PIPELINES:
        answers: Answers = {"ci": ci, "docker": docker, "serving": "fastapi", "monitoring": "prometheus"}
        files = rendered(answers).files
        text = "\n".join(files[name] for name in DEPLOYED if name in files)
        assert "index-url" not in text
        assert "no-hashes" not in text or "--require-hashes" in text
        if docker:
            services = yaml.safe_load(files["compose.yaml"])["services"]
            assert services["grafana"]["environment"]["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
            assert services["serve"]["environment"] == ["SERVING_API_KEY"]
            ports = [port for service in services.values() for port in service.get("ports", [])]
            assert all(port.startswith("127.0.0.1:") for port in ports)


@contextmanager
def running(command: tuple[str | Path, ...], cwd: Path, settings: dict[str, str]) -> Iterator[None]:
    """A process that is ended when it is no longer needed; what it says lies beside what it works on."""
    with (cwd / f"{Path(command[0]).name}-{len(command)}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=cwd, env=settings, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
            assert process.poll() is None, f"{command} has ended"
        finally:
            process.terminate()
            process.wait(60)


def eventually(ask: Callable[[], Any], timeout_s: float = 120) -> Any:
    """What is given in the end, by something that takes a while to begin."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if answer := ask():
                return answer
        except HTTPError:
            raise
        except OSError:
            pass  # nobody listens yet
        assert time.monotonic() < deadline, f"{ask} gave nothing"
        time.sleep(0.5)


def read(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=30) as answer:
        return json.loads(answer.read())


def asked(address: str, expression: str) -> list[Any]:
    """Prometheus' answer to a query: a list of series."""
    found = read(f"http://{address}/api/v1/query?query={quote(expression)}")["data"]["result"]
    return list(found)


@pytest.mark.skipif(not PROMETHEUS, reason="needs Prometheus, of Debian's package prometheus")
@by_framework(22)
def test_prometheus_scrapes_training_and_service_and_every_panel_has_something_to_show(
    framework: str, tmp_path: Path
) -> None:
    answers: Answers = {
        "framework": framework,
        "monitoring": "prometheus",
        "serving": "fastapi",
        "loggers": [],
    }
    generated = rendered(answers)
    project = Project(write(generated, tmp_path), "my_project")
    training, serving, prometheus = (f"127.0.0.1:{port}" for port in free_ports(3))
    config = generated.files["monitoring/prometheus.yml"].replace("5s", "1s")
    config = config.replace("localhost:8001", training).replace("localhost:8000", serving)
    (tmp_path / "prometheus.yml").write_text(config)
    assert training in config
    assert serving in config

    endless = ("--epochs", "100000", "--patience", "0", "--model.width", "8", "--num_threads", "1")
    train = (sys.executable, "-m", "my_project.train", *endless)
    serve = (
        sys.executable,
        "-m",
        "my_project.serve",
        "--backend",
        "plain",
        "--port",
        serving.partition(":")[2],
    )
    options = (
        "--config.file=prometheus.yml",
        f"--web.listen-address={prometheus}",
        "--storage.tsdb.path=tsdb",
    )
    with ExitStack() as stack:
        start = partial(running, cwd=tmp_path, settings=project.settings | {"METRICS_ADDRESS": training})
        stack.enter_context(start((str(PROMETHEUS), *options)))
        stack.enter_context(start(train))
        eventually((tmp_path / "runs/0001/best.json").exists)
        stack.enter_context(start(serve))
        images = [[[[128] * 8] * 8]]
        eventually(lambda: read(f"http://{serving}/predict", {"inputs": images}))
        with urlopen(f"http://{serving}/metrics", timeout=30) as answer:
            offered = answer.read().decode()
        empty = []
        for panel, expression in expressions(generated):
            if expression.endswith(" or vector(0)"):  # of what has not happened yet
                [name] = re.findall(r"serving_\w+", expression)
                assert f"# TYPE {name} " in offered, panel
            else:
                read(f"http://{serving}/predict", {"inputs": images})
                deadline = time.monotonic() + 20
                while not (series := asked(prometheus, expression)) and time.monotonic() < deadline:
                    time.sleep(0.5)
                if not series:
                    empty.append(panel)
        assert not empty
