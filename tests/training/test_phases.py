"""A step with two phases, each with an optimizer of its own, keeps the promises of a step with one."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlscaffold.catalogue.questions import Answers
from tests.conftest import Say
from tests.support.projects import FRAMEWORKS, SOAK, STRATEGIES, Project, by_framework, rendered, write
from tests.support.proofs import once
from tests.support.releases import ROOT
from tests.training.test_losses import FAR, TASKS, checkpoint, distance, same

PHASES = ("discriminator", "generator")
SCRIPT = ROOT / "tests/support/phase_runs.py"
LARGE = 2.0**28  # of a float16 scaler, which has to come down first
CONSTANT = "--optim.schedule plateau"
RUNS: dict[str, dict[str, Any]] = {
    name: {"arguments": arguments.split(), **more}
    for name, arguments, more in (
        # An epoch of 500 points has 15 batches of 32 in one process, 7 in two: its last step is short.
        ("fp32", f"{CONSTANT} --epochs 3 --optim.accumulate 4 --optim.grad_clip 0.02", {}),
        ("bf16", f"{CONSTANT} --epochs 2 --optim.accumulate 2 --precision bf16", {}),
        ("fp16", f"{CONSTANT} --epochs 2 --optim.accumulate 2 --precision fp16", {}),
        (
            "overflows",
            f"{CONSTANT} --epochs 3 --optim.accumulate 2 --precision fp16",
            {"scale": LARGE},
        ),
        ("onecycle", "--optim.schedule onecycle --epochs 3 --optim.accumulate 2", {}),
        ("max_steps", f"{CONSTANT} --epochs 9 --max_steps 5 --optim.accumulate 4", {}),
    )
}
HARM: dict[str, dict[str, Any]] = {
    f"harmed-{phase}-{precision}": {
        "arguments": f"--epochs 2 --optim.accumulate 2 --log_every 4 --precision {precision}".split(),
        "harm": [3, number],
    }
    for number, phase in enumerate(PHASES)
    for precision in ("fp32", "fp16")
}
EACH = "--epochs 2 --optim.accumulate 4 --ema_decay 0.9 --save_every 1 --precision fp16"
WHOLE: dict[str, dict[str, Any]] = {"whole": {"arguments": EACH.split(" "), "resume": True}}

FEW = {"fp32", "fp16", "harmed-generator-fp32", "harmed-discriminator-fp16", "whole"}  # of several processes


def chosen(strategy: str, runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The runs that `make test` has for a strategy; `make soak` has all."""
    return {name: run for name, run in runs.items() if strategy == "single" or SOAK or name in FEW}


def by_run(runs: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    pairs = [(strategy, name) for strategy in STRATEGIES for name in chosen(strategy, runs)]
    return pytest.mark.parametrize(("strategy", "name"), pairs)


Made = Callable[..., Project]
Trained = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A project that trains a GAN."""

    @once
    def make(framework: str, strategy: str, optimizers: str = "several") -> Project:
        folder = tmp_path_factory.mktemp(f"rings-{framework}-{strategy}-{optimizers}")
        answers: Answers = {
            "framework": framework,
            "strategy": strategy,
            "optimizers": optimizers,
            "loggers": [],
        }
        write(rendered(answers), folder)
        shutil.rmtree(folder / "src/my_project/task")
        shutil.copytree(TASKS / "rings", folder / "src/my_project/task")
        return Project(folder, "my_project")

    return make


@pytest.fixture(scope="module")
def trained(made: Made) -> Trained:
    """All runs of a framework and a strategy; the folder that they lie in."""

    @once
    def train(framework: str, strategy: str) -> Path:
        project = made(framework, strategy)
        runs = json.dumps(chosen(strategy, RUNS | HARM | WHOLE))
        project.run_fork(SCRIPT, "my_project", "train", runs, processes=num_processes(strategy))
        return project.folder / "runs"

    return train


@pytest.fixture(scope="module")
def plain(made: Made) -> Callable[[str], Path]:
    """The same runs in a loop without any framework, on steps of as many processes."""

    @once
    def train(strategy: str) -> Path:
        project = made(FRAMEWORKS[0], strategy)
        size = str(num_processes(strategy))
        project.run_fork(SCRIPT, "my_project", "plain", size, json.dumps(chosen(strategy, RUNS)))
        return project.folder / "plain"

    return train


def num_processes(strategy: str) -> int:
    return 1 if strategy == "single" else 2


def num_steps(name: str, strategy: str) -> int:
    given = dict(zip(*[iter((RUNS | WHOLE)[name]["arguments"])] * 2, strict=True))
    batches = 500 // 32 // num_processes(strategy)
    whole = int(given["--epochs"]) * -(-batches // int(given["--optim.accumulate"]))
    return min(whole, int(given.get("--max_steps", whole)))


def taken(state: dict[str, Any]) -> dict[str, int]:
    """How many steps the optimizer of each phase has made."""
    found = {}
    for phase in PHASES:
        moments = (
            state["update"][phase]["optimizer"]["state"] if "update" in state else state["states"][phase]
        )
        (found[phase],) = {int(moment["step"]) for moment in moments.values()}
    return found


def values(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == name]


@by_run(RUNS)
@by_framework(29)
def test_each_phase_trains_as_in_a_plain_loop(
    trained: Trained, plain: Callable[[str], Path], framework: str, strategy: str, name: str, say: Say
) -> None:
    """Clipped by its own norm, over all batches of the step and all processes, with its own schedule."""
    found = checkpoint(trained(framework, strategy) / name)
    wanted = torch.load(plain(strategy) / f"{name}.pt", weights_only=True)
    steps = num_steps(name, strategy)
    assert found["step"] == steps
    if name == "overflows":  # with a reference instead of the count, it may skip fewer
        assert all(taken(wanted)[phase] <= taken(found)[phase] < steps for phase in PHASES)
        assert found["scaler"]["scale"] >= wanted["scaler"]["scale"]
    else:
        assert taken(found) == dict.fromkeys(PHASES, steps)
        module = {key: value for key, value in found["module"].items() if key.startswith("net.")}
        far = distance(module, wanted["module"], wanted["start"])
        say(f"{framework} {strategy} phases {name}: {far:.1e}")
        assert far < FAR[name if name in FAR else "fp32"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@by_framework()
def test_steps_are_counted_once_and_logged_for_each_phase(
    trained: Trained, framework: str, strategy: str
) -> None:
    for name in chosen(strategy, {name: RUNS[name] for name in ("fp32", "max_steps", "onecycle")}):
        run, steps = trained(framework, strategy) / name, num_steps(name, strategy)
        for phase in PHASES:
            assert len(values(run, f"train/{phase}_loss")) == steps
        assert len(values(run, "lr")) == steps
        rates = [
            [
                (group["lr"], group["betas"])
                for group in checkpoint(run)["update"][phase]["optimizer"]["param_groups"]
            ]
            for phase in PHASES
        ]
        assert rates[0] == rates[1]
        assert json.loads((run / "run.json").read_text())["finished"] == steps


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_both_frameworks_come_to_the_same_checkpoint(trained: Trained, strategy: str) -> None:
    for name in chosen(strategy, RUNS | HARM | WHOLE):
        one, other = (checkpoint(trained(framework, strategy) / name) for framework in FRAMEWORKS)
        assert [key for key in one if key != "versions" and not same(one[key], other[key])] == [], name


@pytest.mark.parametrize("strategy", STRATEGIES)
@by_framework(29)
def test_a_run_goes_on_to_the_same_end_from_each_of_its_steps(
    trained: Trained, framework: str, strategy: str
) -> None:
    runs, steps = trained(framework, strategy), num_steps("whole", strategy)
    whole = checkpoint(runs / "whole")
    assert whole["step"] == steps
    for step in range(1, steps):
        resumed = checkpoint(runs / f"whole-from-{step}")
        assert [key for key in whole if not same(whole[key], resumed[key])] == [], step


@by_run(HARM)
@by_framework()
def test_a_gradient_that_is_not_finite_costs_its_own_phase_one_step_in_all_processes(
    trained: Trained, framework: str, strategy: str, name: str
) -> None:
    runs, (step, phase) = trained(framework, strategy), HARM[name]["harm"]
    for rank in range(num_processes(strategy)):
        noted = torch.load(runs / f"{name}-{rank}.pt", weights_only=True)
        made = len(noted["changed"])
        assert noted["changed"] == [number != 2 * (step - 1) + phase for number in range(made)]
        if "fp16" in name:  # where the scaler may need that
            assert noted["said"] == ""
        else:
            assert made == 2 * 4, "it ends where it logs"
            assert noted["said"].startswith(f"step {step}: its gradient was not finite, so it was left out.")
    saved = checkpoint(runs / name)
    other = PHASES[1 - phase]
    assert taken(saved) == {PHASES[phase]: saved["step"] - 1, other: saved["step"]}
    assert saved["scaler"].get("scale", 2.0**15) == 2.0**15
    assert all(value.isfinite().all() for value in saved["module"].values())


@pytest.mark.parametrize("strategy", STRATEGIES)
@by_framework()
def test_all_processes_have_the_weights_that_are_saved(
    trained: Trained, framework: str, strategy: str
) -> None:
    runs = trained(framework, strategy)
    for name in chosen(strategy, RUNS):
        held = [
            torch.load(runs / f"{name}-{rank}.pt", weights_only=True)["weights"]
            for rank in range(num_processes(strategy))
        ]
        if strategy == "fsdp":  # each has some rows
            held = [
                [[torch.cat(rows) for rows in zip(*parts, strict=True)] for parts in zip(*held, strict=True)]
            ]
        module = checkpoint(runs / name)["module"]
        for phase, *owned in zip(PHASES, *held, strict=True):
            saved = [module[key] for key in module if key.startswith(f"net.{phase}.")]
            saved.sort(key=lambda weight: weight.ndim == 1)  # as in the optimizer
            for weights in owned:
                assert same(weights, saved)


@by_framework()
def test_phases_in_a_project_with_one_optimizer_are_refused_in_a_line(framework: str, made: Made) -> None:
    project = made(framework, "single", "one")
    done = project.start_fork("-m", "my_project.train", "--out_dir", "refused")
    assert done.returncode == 1
    assert "this project has one optimizer: mlscaffold set optimizers=several" in done.stderr
    assert not (project.folder / "refused").exists()


@by_framework()
def test_phases_without_groups_are_refused_in_a_line(framework: str, made: Made) -> None:
    project = made(framework, "single")
    package = project.folder / "src/without_groups"
    shutil.copytree(project.folder / "src/my_project", package)
    path = package / "task/objective.py"
    path.write_text(path.read_text().replace("def groups", "def parts"))
    done = project.start_fork("-m", "without_groups.train", "--out_dir", "refused")
    assert done.returncode == 1
    assert "error: Objective.phases needs Objective.groups(net, phase)" in done.stderr.splitlines()[-1]
    assert not (project.folder / "refused").exists()
