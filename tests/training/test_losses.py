"""A loss over any count, with parameters of its own or none, trains as a plain loop does."""

import csv
import json
import math
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mlscaffold.catalogue.questions import Answers
from tests.conftest import Say
from tests.support.projects import (
    CATALOGUE,
    FRAMEWORKS,
    GAN,
    SOAK,
    STRATEGIES,
    Project,
    by_framework,
    rendered,
    write,
)
from tests.support.proofs import once
from tests.support.releases import ROOT

APART = ("task",)  # share nothing, so they may run in several processes
SCRIPT = ROOT / "tests/support/task_runs.py"
TASKS = ROOT / "tests/support/tasks"  # each takes the place of `task/` in a project; others come with it

# How far weights may be from the plain loop's, as a share of the way that training has moved them. In half
# precision each product is rounded to 8 or 11 bits, so a sum over other parts has other last digits.
FAR = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 1e-2}
SHORT = "--max_steps 25 --optim.grad_clip 0.5"  # with 2 batches a step, the last of an epoch has one
SMALL = "--data.longest 30 --model.width 16"  # products in half precision take long on a CPU
OVERFLOWING = 2.0**28  # of a float16 scaler, which has to come down first
HARMED = 4  # the step
TEXTS = (
    f"{SHORT} --model.dropout 0 --model.width 8 --model.buckets 512 --data.batch_size 24"  # of uneven lengths
)

TOKENS = (
    f"{SHORT} --model.width 16 --model.depth 1 --data.window 16 --data.vocabulary 300 --data.batch_size 12"
)
MADE = "--max_steps 12 --model.width 8 --model.depth 1 --model.steps 2 --data.repeat 1 --data.batch_size 32"
PAIRS = "--max_steps 12 --model.width 8 --model.depth 1 --data.batch_size 32"
MASKS = "--max_steps 12 --model.width 4 --model.depth 2 --data.batch_size 6"

Runs = dict[str, dict[str, Any]]
RUNS: dict[str, Runs] = {
    "tokens": {
        f"{precision}-{accumulate}": {
            "arguments": shlex.split(
                f"{SHORT} {SMALL} --precision {precision} --optim.accumulate {accumulate}"
            )
        }
        for precision in FAR
        for accumulate in (1, 2)
    }
    | {
        f"overflows-{accumulate}": {
            "arguments": shlex.split(f"{SHORT} {SMALL} --precision fp16 --optim.accumulate {accumulate}"),
            "scale": OVERFLOWING,
        }
        for accumulate in (1, 2)
    },
    "margins": {
        "fp32-2": {"arguments": shlex.split(f"{SHORT} --precision fp32 --optim.accumulate 2 --save_every 5")}
    },
    "text-classification": {
        "fp32-2": {"arguments": shlex.split(f"{TEXTS} --precision fp32 --optim.accumulate 2 --save_every 5")},
        "bf16-1": {"arguments": shlex.split(f"{TEXTS} --precision bf16")},
        "fp16-1": {"arguments": shlex.split(f"{TEXTS} --precision fp16")},
    },
    "segmentation": {
        "fp32-2": {"arguments": shlex.split(f"{MASKS} --precision fp32 --optim.accumulate 2 --save_every 5")}
    },
    "image-generation": {
        "fp32-2": {"arguments": shlex.split(f"{MADE} --precision fp32 --optim.accumulate 2 --save_every 5")}
    },
    "gan": {
        "fp32-2": {"arguments": shlex.split(f"{PAIRS} --precision fp32 --optim.accumulate 2 --save_every 5")}
    },
    "language-modeling": {
        "fp32-2": {
            "arguments": shlex.split(f"{TOKENS} --precision fp32 --optim.accumulate 2 --save_every 5")
        },
    },
}
RESUMED = "fp32-2"  # from its checkpoint of step 10, where it has one
HARM: Runs = {"harmed": {"arguments": shlex.split(f"{SMALL} --max_steps 8 --precision fp16"), "harm": HARMED}}
# By seeds, which the plain loop has not, a language model moves its windows, and a generator has its noise.
COMPARED = [task for task in RUNS if task not in ("language-modeling", "image-generation", "gan")]
OURS = [task for task in RUNS if task not in ("tokens", "margins")]
# Of runs of several processes, `make test` has each precision and each number of batches with each strategy.
FEW = {
    "ddp": ("fp32-2", "bf16-1", "fp16-2", "overflows-1"),
    "fsdp": ("fp32-1", "bf16-2", "fp16-1", "overflows-2"),
}


def chosen(task: str, strategy: str) -> Runs:
    """The runs of a task with a strategy; `make soak` has all."""
    resumed = RESUMED if task != "tokens" else ""
    names = {*FEW.get(strategy, RUNS[task]), resumed}
    return {name: run for name, run in RUNS[task].items() if SOAK or name in names}


CASES = [
    (strategy, task, name) for strategy in STRATEGIES for task in COMPARED for name in chosen(task, strategy)
]

# Of a U-Net, rounding moves the weights of two plain loops apart by a fiftieth in 12 steps, if one takes all
# images of a step at once and the other in batches of six. tests.matrix looks at six steps of it.
ADDED_UP = [case for case in CASES if case[1] != "segmentation"]

Trained = Callable[[str, str, str], Path]
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train the runs of a task in two processes, or in one; return the folder that they lie in."""

    @once
    def train(task: str, framework: str, strategy: str) -> Path:
        folder = tmp_path_factory.mktemp(f"{task}-{framework}-{strategy}")
        project = Project(with_task(task, framework, strategy, folder), "my_project")
        runs = json.dumps(chosen(task, strategy) | (HARM if task == "tokens" else {}))
        project.run_fork(SCRIPT, "my_project", "runs", "train", runs, processes=1 + (strategy != "single"))
        if task != "tokens":
            copy = f"kept/{RESUMED}-checkpoints/step-{10:08d}.pt"
            more = {"arguments": [*RUNS[task][RESUMED]["arguments"], "--resume", f"runs/{copy}"]}
            again = json.dumps({"resumed": more})
            project.run_fork(
                SCRIPT, "my_project", "runs", "train", again, processes=1 + (strategy != "single")
            )
        return folder / "runs"

    return train


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """The same runs in a loop without any framework, on steps of so many processes."""

    @once
    def train(task: str, processes: int) -> Path:
        folder = with_task(task, FRAMEWORKS[0], "single", tmp_path_factory.mktemp(task))
        runs = json.dumps(RUNS[task])
        Project(folder, "my_project").run_fork(SCRIPT, "my_project", "runs", "plain", str(processes), runs)
        return folder / "runs"

    return train


def with_task(task: str, framework: str, strategy: str, folder: Path) -> Path:
    """A project whose `task/` is one of ours, or one that is offered."""
    own: Answers = {"task": task} if task in CATALOGUE["task"].values else GAN if task == "gan" else {}
    serving = "export" if task == "margins" else "none"
    answers: Answers = {
        "framework": framework,
        "strategy": strategy,
        "loggers": [],
        "serving": serving,
        **own,
    }
    write(rendered(answers), folder)
    if not own:
        shutil.rmtree(folder / "src/my_project/task")
        shutil.copytree(TASKS / task, folder / "src/my_project/task")
    return folder


def checkpoint(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(max((run / "checkpoints").glob("step-*.pt")), weights_only=True)
    return content


def flat(weights: Weights) -> Tensor:
    return torch.cat([value.double().flatten() for value in weights.values()])


def distance(weights: Weights, wanted: Weights, start: Weights) -> float:
    """How far weights are from those wanted, over how far these are from the start."""
    assert list(weights) == list(wanted)
    return float((flat(weights) - flat(wanted)).norm() / (flat(wanted) - flat(start)).norm())


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal to the last bit."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.soak
@pytest.mark.parametrize(("strategy", "task", "name"), ADDED_UP)
@by_framework(9)
def test_the_gradient_is_that_of_the_mean_over_all_that_a_step_counts(
    trained: Trained,
    plain: Callable[[str, int], Path],
    framework: str,
    strategy: str,
    task: str,
    name: str,
    say: Say,
) -> None:
    wanted = torch.load(plain(task, 1 + (strategy != "single")) / f"{name}.pt", weights_only=True)
    found = checkpoint(trained(task, framework, strategy) / name)
    assert found["step"] == 25
    skipped, expected = (
        round(math.log2((OVERFLOWING if "overflows" in name else 2.0**16) / state["scaler"]["scale"]))
        if state["scaler"]
        else 0
        for state in (found, wanted)
    )
    far = distance(found["module"], wanted["module"], wanted["start"])
    wrong = distance(wanted["mean_of_means"], wanted["module"], wanted["start"])
    say(
        f"{framework} {strategy} {task} {name}: {far:.1e}; mean of means {wrong:.1e};"
        f" skipped {skipped} of {expected}"
    )
    assert skipped <= expected
    if name.startswith("fp32"):
        with (trained(task, framework, strategy) / name / "metrics.csv").open() as file:
            logged = [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "train/loss"]
        assert logged == pytest.approx(wanted["losses"], rel=1e-4)  # of all batches and processes
    if "overflows" in name:
        assert expected >= 3
    else:
        assert far < FAR[name.partition("-")[0]]
        if task == "tokens" and (strategy, name[-1]) != ("single", "1"):  # there is one batch, of one process
            assert far < wrong / 2


@pytest.mark.soak
@pytest.mark.parametrize(("strategy", "task", "name"), CASES)
def test_both_frameworks_come_to_the_same_checkpoint(
    trained: Trained, strategy: str, task: str, name: str
) -> None:
    first, *others = (checkpoint(trained(task, framework, strategy) / name) for framework in FRAMEWORKS)
    first.pop("versions")
    for other in others:
        other.pop("versions")
        assert [key for key in first if not same(first[key], other[key])] == []


@pytest.mark.parametrize("task", ["tokens"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@by_framework(5, 10)
def test_a_gradient_that_is_not_finite_in_a_part_of_one_process_is_left_out_by_all(
    trained: Trained, framework: str, strategy: str, task: str
) -> None:
    """One element, which FSDP gives to one process alone: another one than that it came up in."""
    runs = trained(task, framework, strategy)
    for rank in range(1 + (strategy != "single")):
        noted = torch.load(runs / f"harmed-{rank}.pt", weights_only=True)
        expected = [step != HARMED for step in range(1, 9)]
        assert noted["changed"] == expected, f"process {rank}"
        assert noted["finite"] == ([True] * 8 if strategy == "fsdp" and rank else expected)
    saved = checkpoint(runs / "harmed")
    assert saved["scaler"]["scale"] == 2.0**15
    assert all(value.isfinite().all() for value in saved["module"].values())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("task", OURS)
@by_framework(4)
def test_a_run_of_a_task_is_resumed_to_the_bit(
    trained: Trained, framework: str, task: str, strategy: str
) -> None:
    runs = trained(task, framework, strategy)
    whole, resumed = (checkpoint(runs / name) for name in (RESUMED, "resumed"))
    assert [key for key in whole if not same(whole[key], resumed[key])] == []


@pytest.mark.parametrize("task", ["margins"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@by_framework(8)
def test_parameters_of_a_loss_are_trained_and_resumed_and_are_not_part_of_the_network(
    trained: Trained, framework: str, strategy: str, task: str
) -> None:
    runs = trained(task, framework, strategy)
    whole, resumed = (checkpoint(runs / name) for name in ("fp32-2", "resumed"))
    assert [key for key in whole if not same(whole[key], resumed[key])] == []
    best = torch.load(runs / "fp32-2/best.pt", weights_only=True)
    learned = torch.load(runs / "fp32-2/objective.pt", weights_only=True)
    assert list(learned) == ["centers", "log_scale"]
    assert {name.removeprefix("net.") for name in whole["module"] if name.startswith("net.")} == set(best)
    for name, value in learned.items():
        assert torch.equal(value, whole["module"][f"objective.{name}"])


@pytest.mark.parametrize("task", ["margins"])
@by_framework()
def test_parameters_of_a_loss_are_not_exported(trained: Trained, framework: str, task: str) -> None:
    runs = trained(task, framework, "single")
    look = (
        "import json, onnx, torch; from pathlib import Path; folder = Path('runs/fp32-2/export');"
        "program = torch.export.load(folder / 'model.pt2'); graph = onnx.load(folder / 'model.onnx').graph;"
        "shapes = [list(value.shape) for value in program.state_dict.values()];"
        "print(json.dumps([shapes, [list(tensor.dims) for tensor in graph.initializer]]))"
    )
    project = Project(runs.parent, "my_project")
    project.run_fork("-m", "my_project.export", "--run", "runs/fp32-2")
    for shapes in json.loads(project.run_fork("-c", look)):
        weights = sorted(sorted(shape) for shape in shapes if len(shape) == 2)
        assert weights == [[16, 48], [48, 64]]  # and no centers [10, 16]


@pytest.mark.parametrize("task", ["margins"])
@by_framework(13)
def test_scores_that_need_parameters_of_a_loss_are_those_of_the_run(
    trained: Trained, framework: str, task: str
) -> None:
    runs = trained(task, framework, "single")
    project = Project(runs.parent, "my_project")
    measure = (
        "import json, sys; from pathlib import Path; from my_project import config, trained;"
        "from my_project.task import data; run = Path('runs/fp32-2'); cfg = config.read_settings(run);"
        "given = data.open_data(cfg.data); data.open_data = lambda _: given._replace(test=given.val);"
        "print(json.dumps(trained.evaluate(run, cfg)))"
    )
    found = json.loads(project.run_fork("-c", measure))
    kept = json.loads((runs / "fp32-2/best.json").read_text())
    assert found == kept["scores"]
    assert found["accuracy"] > 0.8
    for name, content in (("none", None), ("damaged", b"no weights")):
        run = shutil.copytree(runs / "fp32-2", runs / f"{name}-objective")
        (run / "objective.pt").unlink() if content is None else (run / "objective.pt").write_bytes(content)
        done = project.start_fork("-m", "my_project.evaluate", "--run", run)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {run / 'objective.pt'}: it cannot be used (")
        assert done.stderr.count("\n") == 1
