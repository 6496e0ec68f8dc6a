"""What was learned from texts is exported, shared and served, of whatever lengths, and whatever is sent."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from mlscaffold.catalogue.questions import Answers
from tests.support.projects import CATALOGUE, FRAMEWORKS, Project, rendered, times, write
from tests.support.proofs import once
from tests.support.releases import ROOT
from tests.support.services import Service, connect, serving

TEXTS, LANGUAGE = "text-classification", "language-modeling"
SERVICES = ("fastapi", "litserve")
TRAIN = """
import sys
from my_project import config, train
from my_project.serving import exported
sys.argv = ["train", "--config", "configs/smoke.yaml", "--out_dir", "runs/default", "--num_threads", "1"]
cfg, _ = config.parse("train")
train.run(cfg)
exported.export(cfg.out_dir, cfg, ["torch-export", "onnx"])
"""
# Texts that are asked for, and what `predict` answers; how far exported files differ from the plain model for
# batches and lengths that they were not made with, and how far answers depend on the texts beside them.
ANSWERS = """
import json
from pathlib import Path
import numpy as np
from my_project.config import read_settings
from my_project.serving.exported import load_exported, load_model
from my_project.task import inputs, requests
from my_project.trained import Trained
run, [name], draw = Path("runs/default"), inputs.INPUTS, np.random.default_rng(1)
plain, trained = load_model(run, "plain"), Trained(run, read_settings(run))
longest = plain.about.get("window") or plain.about["max_bytes"]
kind, most = (np.uint8, 256) if name == "texts" else (np.int64, plain.about["num_tokens"])
found = {"torch-export": 0.0, "onnx": 0.0, "neighbours": 0.0}
for size in (1, 3, 12):
    for length in (1, 2, 13, longest):
        lengths = [length, *draw.integers(1, length + 1, size - 1)]
        samples = [{name: draw.integers(1, most, number).astype(kind)} for number in lengths]
        expected = plain.run(inputs.collate(samples))
        for other in ("torch-export", "onnx"):
            answers = load_exported(run, other).run(inputs.collate(samples))
            found[other] = max(found[other], inputs.differ(expected, answers).max().item())
        for row, sample in enumerate(samples):
            for output, alone in plain.run(inputs.collate([sample])).items():
                together = expected[output][row][tuple(map(slice, alone[0].shape))]
                found["neighbours"] = max(found["neighbours"], np.abs(together - alone[0]).max().item())
words = "Der Bahnhof ist nicht weit von hier, sagte sie. "
asked = [(words * 30)[:length] for length in (3, 1000, 8, 500, 1, 64, 200, 17)]
if name == "tokens":
    asked = [{"prompt": text[:16 * longest], "max_tokens": 5 + row} for row, text in enumerate(asked)]
samples = [requests.decode(one, plain.about, 2**30)[0] for one in asked]
if own := getattr(inputs, "predict", None):
    answers = [own(trained.net, sample, plain.about, plain.assets) for sample in samples]
else:
    answers = [inputs.predictions(plain.run(inputs.collate([sample])), plain.about)[0] for sample in samples]
told = {"found": found, "tolerance": inputs.TOLERANCE, "asked": asked, "answers": answers}
Path("answers.json").write_text(json.dumps(told))
"""
# The lengths of the samples of each call of the model, for one request.
MIXED = """
import asyncio, json
from pathlib import Path
import httpx
from my_project.serving.service import build_app
from my_project.serving.settings import Settings
app, calls = build_app(Path("runs/default"), Settings()), []
service = app.state.service
run = service.model.run

def note(arrays):
    calls.append((arrays["texts"] > 0).sum(axis=1).tolist())
    return run(arrays)

async def ask():
    service.model = service.model._replace(run=note)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post("/predict", json={"inputs": ["x" * n for n in (3, 900, 2, 600, 30, 1000)]})
        assert answer.status_code == 200, answer.text

asyncio.run(ask())
print(json.dumps(calls))
"""

GetProject = Callable[..., Project]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> GetProject:
    """A project of a task with a service, and an exported run; each task has another framework."""

    @once
    def make(task: str, service: str = "fastapi") -> Project:
        folder = tmp_path_factory.mktemp(f"{task}-{service}")
        framework = FRAMEWORKS[task == LANGUAGE]
        answers: Answers = {"task": task, "framework": framework, "serving": service, "loggers": []}
        made = Project(write(rendered(answers), folder), "my_project")
        if service == "fastapi":
            made.run_fork("-c", TRAIN)
            made.run_fork("-c", ANSWERS)
        else:
            for name in ("runs", "answers.json"):
                copy = shutil.copytree if name == "runs" else shutil.copy
                copy(make(task).folder / name, folder / name)
        return made

    return make


def told(project: Project) -> dict[str, Any]:
    answers: dict[str, Any] = json.loads((project.folder / "answers.json").read_text())
    return answers


def run_of(project: Project) -> Path:
    return project.folder / "runs/default"


def body(inputs: list[Any]) -> bytes:
    return json.dumps({"inputs": inputs}).encode()


@pytest.mark.parametrize("task", [TEXTS, LANGUAGE])
def test_exported_models_answer_as_the_plain_one_for_batches_and_lengths_that_none_has_seen(
    project: GetProject, task: str
) -> None:
    made = told(project(task))
    assert len(made["found"]) == 3
    assert max(made["found"].values()) <= made["tolerance"], made["found"]


@pytest.mark.parametrize("task", [TEXTS, LANGUAGE])
def test_a_hub_finds_weights_settings_and_a_card_that_it_can_read(project: GetProject, task: str) -> None:
    run = run_of(project(task))
    hub, weights = run / "export/hub", torch.load(run / "best.pt", weights_only=True)
    found = load_file(hub / "model.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())
    assert json.loads((hub / "config.json").read_text())["about"]
    assets = {path.name for path in (hub / "assets").iterdir()}
    assert assets == ({"tokenizer.json"} if task == LANGUAGE else set())
    card = ModelCard.load(hub / "README.md")
    best = json.loads((run / "best.json").read_text())
    assert card.data.pipeline_tag == {TEXTS: "text-classification", LANGUAGE: "text-generation"}[task]
    assert card.data.metrics == [*best["scores"]]
    assert json.loads((run / "run.json").read_text())["data"] in card.text


@pytest.mark.parametrize("task", [str(task) for task in CATALOGUE["task"].values])
def test_the_card_of_each_task_begins_as_hubs_read_it(task: str) -> None:
    files = rendered({"task": task, "serving": "export"}).files
    card = ModelCard(files["src/my_project/task/card.md"])
    facts: Any = card.data
    assert "pytorch" in facts.tags
    assert "## Data" in card.text
    assert "## Limits" in card.text


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("task", [TEXTS, LANGUAGE])
def test_texts_of_all_lengths_are_answered_alone_and_mixed_as_predict_does_and_limits_are_no_errors(
    project: GetProject, task: str, service: str
) -> None:
    made = project(task, service)
    asked, answers = told(made)["asked"], told(made)["answers"]
    with serving(made, run_of(made), "--deadline_s", 60, "--max_body_mb", 0.1) as live:
        alone = [live.ask("/predict", body([one])) for one in asked]
        together = live.ask("/predict", body(asked))
        for status, given in (*alone, together):
            assert status == 200, given
        for given in ([each["predictions"][0] for _, each in alone], together[1]["predictions"]):
            assert given == [
                {n: pytest.approx(v, abs=1e-5) if isinstance(v, float) else v for n, v in one.items()}
                for one in answers
            ]
        statuses = {name: live.ask("/predict", sent)[0] for name, sent in refused(task).items()}
        assert statuses == dict.fromkeys(statuses, 422) | {"body": 413}
        if task == LANGUAGE:
            asyncio.run(short_ones_overtake(live))
            stream(live, asked[0], answers[0])
        assert live.stop() == 0


def refused(task: str) -> dict[str, bytes]:
    """Requests that are beyond a limit."""
    most = {TEXTS: 1024, LANGUAGE: 16 * 32}[task]
    sent: dict[str, list[Any]] = {
        "long": ["a" * (most + 1)],
        "many": ["a"] * 65,
        "none": [],
        "number": [1],
        "deep": [[["a"]]],
    }
    if task == LANGUAGE:
        sent["tokens"] = [{"prompt": "a", "max_tokens": 513}]
    else:
        sent["letters"] = ["ü" * (most // 2 + 1)]
        sent["empty"] = [" "]
    return {name: body(inputs) for name, inputs in sent.items()} | {"body": body(["a" * 200_000])}


async def short_ones_overtake(live: Service) -> None:
    """While long texts are continued, short ones and health checks are answered."""
    long, short, health = [await connect(live.port) for _ in range(3)]
    asked = body([{"prompt": text, "max_tokens": 512, "temperature": 0} for text in ("The", "A")])
    answer = asyncio.create_task(long.ask("/predict", asked))
    await asyncio.sleep(0.1)
    for _ in range(3):
        assert (await health.ask("/livez")).status == 200
        assert (await short.ask("/predict", body([{"prompt": "The", "max_tokens": 1}]))).status == 200
    assert not answer.done()
    assert (await answer).status == 200


def stream(live: Service, asked: Any, expected: dict[str, Any]) -> None:
    """A text that is sent piece by piece is that of `predict`; what cannot be streamed is refused."""
    address = f"http://127.0.0.1:{live.port}/stream"
    with httpx.Client(trust_env=False, timeout=60) as client:
        *parts, counts = map(json.loads, client.post(address, json={"inputs": [asked]}).text.splitlines())
        assert len(parts) > 1
        assert {"text": "".join(part["text"] for part in parts), **counts} == expected
        assert client.post(address, json={"inputs": [asked, asked]}).status_code == 422


def test_a_request_that_mixes_lengths_is_answered_in_calls_of_like_lengths(project: GetProject) -> None:
    calls = json.loads(project(TEXTS).run_fork("-c", MIXED))
    assert sorted(length for call in calls for length in call) == [2, 3, 30, 600, 900, 1000]
    assert all(max(call) < 2 * min(call) for call in calls), calls


@pytest.mark.parametrize("task", [TEXTS, LANGUAGE])
def test_no_body_makes_a_service_of_texts_fail(project: GetProject, task: str) -> None:
    number, made = times(1000, 100_000), project(task)
    good: list[Any] = ["Bonjour", "Guten Tag"]
    if task == LANGUAGE:
        good = ["The", {"prompt": "A", "max_tokens": 2}]
    script = (ROOT / "tests/support/serving_bodies.py", "my_project", run_of(made), str(number))
    said = json.loads(made.run_fork(*script, body(good).decode()).splitlines()[-1])
    statuses = {int(status): count for status, count in said.items()}
    assert sum(statuses.values()) == number
    assert max(statuses) < 500, statuses
    assert set(statuses) >= {200, 413, 422}, statuses
