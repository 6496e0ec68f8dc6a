"""A mistake in a task is told in one line that names the function, before an epoch is lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.projects import Project, by_framework, rendered, write
from tests.support.proofs import once

OBJECTIVE, DATA, PACKAGE = "objective.py", "data.py", "__init__.py"
SCORES = '"accuracy": (hits.sum() / total).item(), "f1": f1.item()}'
LABELS = '"label": self.labels[chosen]}'
ABOUT = '"shape": [1, 8, 8]}'

BEGAN = "runs/began/checkpoints/step-00000002.pt"  # of a run without a mistake

# What is wrong: file of the task, its text, what takes its place, settings, and how the line begins.
MISTAKES = {
    "a loss that is a mean": (
        *(OBJECTIVE, "return total, torch.tensor(len(logits))", "return total / len(logits)", ""),
        "Objective.loss: return two scalar tensors, the loss summed over the batch and its count.",
    ),
    "a count that is no tensor": (
        *(OBJECTIVE, "return total, torch.tensor(len(logits))", "return total, len(logits)", ""),
        "Objective.loss: return two scalar tensors",
    ),
    "a loss for each sample": (
        *(OBJECTIVE, "return total,", "return total.expand(2),", ""),
        "Objective.loss: return two scalar tensors",
    ),
    "a loss without a gradient": (
        *(OBJECTIVE, "return total,", "return total.detach(),", ""),
        "Objective.loss: return a sum that has a gradient.",
    ),
    "a measure that is no dict": (
        *(OBJECTIVE, 'return {"loss": cross', 'return logits.sum(), {"loss": cross', ""),
        "Objective.measure: return a dict of tensors, by name: sums over the batch.",
    ),
    "a sum that is no tensor": (
        *(OBJECTIVE, '"confusion": counts.double()}', '"confusion": counts.tolist()}', ""),
        "Objective.measure: return a dict of tensors, by name: sums over the batch.",
    ),
    "a direction that is none": (
        *(OBJECTIVE, '"accuracy": "max"', '"accuracy": "maximize"', ""),
        "Objective.directions: give min or max for each score. Got {'accuracy': 'maximize',",
    ),
    "a monitor that is no score": (
        *(OBJECTIVE, "", "", "--objective.monitor precision"),
        "objective.monitor=precision: Objective.directions has accuracy, f1, loss. Give one of these.",
    ),
    "a monitored score without a direction": (
        *(OBJECTIVE, '"accuracy": "max", ', "", ""),
        "objective.monitor=accuracy: Objective.directions has f1, loss. Give one of these.",
    ),
    "a direction without a score": (
        *(OBJECTIVE, SCORES, SCORES.replace('"f1"', '"F1"'), ""),
        "Objective.scores lacks f1, which Objective.directions names.",
    ),
    "a batch of different lengths": (
        *(DATA, LABELS, '"label": self.labels[chosen[:1]]}', ""),
        "Source.batch: two samples were asked for; each tensor needs as many rows. Got {'image': [2,",
    ),
    "a batch to train on of different lengths": (
        *(DATA, LABELS, '"label": self.labels[chosen if seeds is None else chosen[:1]]}', ""),
        "Source.batch: two samples were asked for; each tensor needs as many rows.",
    ),
    "a batch that is no dict": (
        *(
            DATA,
            f'return {{"image": image if seeds is None else move(image, seeds, self.shift), {LABELS}',
            "return image",
            "",
        ),
        "Source.batch: return a dict of tensors",
    ),
    "a batch with a number": (
        *(DATA, LABELS, '"label": 3}', ""),
        "Source.batch: two samples were asked for; each tensor needs as many rows. Got {'image': [2,",
    ),
    "about that is no JSON": (
        *(DATA, ABOUT, '"shape": [1, 8, 8], "more": {1, 8}}', ""),
        "open_data: `about` has to be plain JSON (",
    ),
    "about with a number that is none": (
        *(DATA, ABOUT, '"shape": [1, 8, 8], "more": float("nan")}', ""),
        "open_data: `about` has to be plain JSON (",
    ),
    "about with a tuple": (
        *(DATA, ABOUT, '"shape": (1, 8, 8)}', ""),
        "open_data: `about` has to be plain JSON: lists in place of tuples, and texts as keys.",
    ),
    "about that is too large": (
        *(DATA, ABOUT, '"shape": [1, 8, 8], "more": 65536 * "x"}', ""),
        "open_data: `about` has 65",
    ),
    "a source that does not pickle": (
        *(
            DATA,
            "        self.nbytes =",
            "        self.file = lambda: 0\n        self.nbytes =",
            "--data.num_workers 1",
        ),
        "open_data: with data.num_workers=1 a source has to pickle (",
    ),
    "phases in a project with one optimizer": (
        *(OBJECTIVE, "    directions:", "    phases = ('one', 'other')\n    directions:", ""),
        "Objective.phases=('one', 'other'): this project has one optimizer: mlscaffold set",
    ),
    "a fingerprint that has changed since the run began": (
        *(DATA, "self.fingerprint = fingerprint or", "self.fingerprint = 'new' or", f"--resume {BEGAN}"),
        f"{BEGAN}: it was trained on other data: Source.fingerprint is another (1,297 samples",
    ),
    "another interface": (
        *(PACKAGE, "INTERFACE = 1", "INTERFACE = 2", ""),
        "task.INTERFACE is 2; this project has 1.",
    ),
}


NUMBERED = {name: f"mistake_{number}" for number, name in enumerate(MISTAKES)}  # packages

RUN = """
import importlib, json, sys
told, packages = {}, json.loads(sys.argv[1])
sys.argv = ["train", "--max_steps", "2", "--num_threads", "1", "--out_dir", "runs/began"]
importlib.import_module("my_project.train").main()
for package, settings in packages.items():
    sys.argv = ["train", *settings.split(), "--num_threads", "1", "--out_dir", f"runs/{package}"]
    try:
        importlib.import_module(f"{package}.train").main()
    except SystemExit as end:
        told[package] = end.code
print(json.dumps(told))
"""

Told = Callable[[str], tuple[Path, dict[str, str]]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Train a project of a framework with each of the mistakes; return where, and how each run ends."""

    @once
    def train(framework: str) -> tuple[Path, dict[str, str]]:
        folder = write(rendered({"framework": framework, "loggers": []}), tmp_path_factory.mktemp(framework))
        for name, package in NUMBERED.items():
            file, text, other, *_ = MISTAKES[name]
            path = folder / "src" / package / "task" / file
            shutil.copytree(folder / "src/my_project", folder / "src" / package)
            assert text in path.read_text(), name
            path.write_text(path.read_text().replace(text, other))
        settings = {package: MISTAKES[name][3] for name, package in NUMBERED.items()}
        done = Project(folder, "my_project").start_fork("-c", RUN, json.dumps(settings))
        ends = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
        return folder, ends | {"stderr": done.stderr}

    return train


@pytest.mark.parametrize("mistake", MISTAKES)
@by_framework(24)
def test_a_mistake_in_a_task_is_named_in_a_line(told: Told, framework: str, mistake: str) -> None:
    folder, ends = told(framework)
    package = NUMBERED[mistake]
    assert package in ends, "the run came to its end"
    assert set(ends["stderr"].splitlines()) == {"loading PyTorch ..."}, ends["stderr"]
    assert ends[package].startswith(f"error: {MISTAKES[mistake][4]}")
    assert "\n" not in ends[package]
    rows = folder / "runs" / package / "metrics.csv"
    assert not rows.exists() or rows.read_text().count("\n") == 1  # its head
