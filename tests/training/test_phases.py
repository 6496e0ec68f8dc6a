"""A step with two phases, each with an optimizer of its own, keeps the promises of a step with one."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlscaffold.catalogue import Answers
from tests.support.projects import FRAMEWORKS, Project, by_framework, rendered, write
from tests.support.proofs import once
from tests.training.test_losses import TASKS, checkpoint

TRAIN = ["-m", "my_project.train", "--epochs", "2", "--optim.accumulate", "4", "--log_every", "1"]
TRAIN += ["--num_threads", "1", "--precision", "fp32"]
STEPS = 2 * 4  # in one process: of four batches of 32 of 500 points, the last of an epoch of three

# Trains with all checkpoints kept.
KEEP = """
import sys
from my_project import train
from my_project.runs import files
sys.argv, files.KEEP = {arguments}, 99
train.main()
"""

Made = Callable[[str, str], Project]


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
def whole(made: Made) -> Callable[[str, str], Path]:
    """A run to its end."""

    @once
    def run(framework: str, strategy: str) -> Path:
        project = made(framework, strategy)
        project.run_fork(*TRAIN, "--out_dir", "whole", processes=1 + (strategy != "single"))
        return project.folder / "whole"

    return run


def values(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == name]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@by_framework()
def test_each_step_counts_once_and_both_phases_train(
    framework: str, made: Made, whole: Callable[[str, str], Path]
) -> None:
    state = checkpoint(whole(framework, "single"))
    assert (state["step"], state["progress"]["epoch"]) == (STEPS, 2)
    for phase in ("discriminator", "generator"):
        losses = values(whole(framework, "single"), f"train/{phase}_loss")
        assert len(losses) == STEPS
        moments = state["update"][phase]["optimizer"]["state"]
        assert {int(moment["step"]) for moment in moments.values()} == {STEPS}
    made(framework, "single").run_fork(*TRAIN, "--out_dir", "still", "--optim.lr", "0", "--max_steps", "1")
    still = checkpoint(made(framework, "single").folder / "still")["module"]
    moved = {
        name.split(".")[1] for name, value in state["module"].items() if not torch.equal(value, still[name])
    }
    assert {"discriminator", "generator"} <= moved


def test_both_frameworks_give_the_same_digits(whole: Callable[[str, str], Path]) -> None:
    one, other = (checkpoint(whole(framework, "single")) for framework in FRAMEWORKS)
    for name in ("module", "update", "losses"):
        assert same(one[name], other[name]), name


@by_framework()
@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
def test_a_run_that_stopped_within_an_epoch_goes_on_to_the_same_end(
    framework: str, strategy: str, made: Made, whole: Callable[[str, str], Path]
) -> None:
    project, processes = made(framework, strategy), 1 + (strategy != "single")
    arguments = [*TRAIN[1:], "--out_dir", "kept", "--save_every", "1"]
    project.run_fork("-c", KEEP.format(arguments=arguments), processes=processes)
    for steps in (1, 2, 5) if strategy == "single" else (1, 2, 3):
        path = f"kept/checkpoints/step-{steps:08d}.pt"
        resumed = f"resumed-{steps}"
        project.run_fork(*TRAIN, "--out_dir", resumed, "--resume", path, processes=processes)
        ours, theirs = checkpoint(project.folder / resumed), checkpoint(whole(framework, strategy))
        assert same(ours["module"], theirs["module"])
        assert same(ours["update"], theirs["update"])


@by_framework()
def test_phases_in_a_project_with_one_optimizer_are_refused_in_a_line(framework: str, made: Any) -> None:
    project = made(framework, "single", "one")
    done = project.start_fork(*TRAIN, "--out_dir", "refused")
    assert done.returncode == 1
    assert "this project has one optimizer: mlscaffold set optimizers=several" in done.stderr
    assert not (project.folder / "refused").exists()
