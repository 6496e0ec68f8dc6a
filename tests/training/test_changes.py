"""A run that goes on with other settings comes to its goal all the same, alike in both frameworks."""

import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from tests.conftest import Say
from tests.support.projects import FRAMEWORKS, SOAK, Project, by_framework, rendered, write
from tests.support.proofs import once
from tests.support.releases import ROOT

NUM_SAMPLES = 1297  # to train on
BATCH = 160  # of all processes, before the change: 8 batches an epoch
COMMON = "--epochs 3 --log_every 1 --num_threads 1 --model.width 2 --precision fp32"
STOPS = {
    "an epoch's end": (8, 1, 0),
    "within an epoch": (11, 1, 480),
}  # steps, epochs, samples of the next one
CHANGES = {
    "nothing": "",
    "batch": "--data.batch_size 50",
    "accumulate": "--optim.accumulate 3",
    "epochs": "--epochs 4",
    "schedule": "--optim.schedule onecycle",
}
PROCESSES = (1, 2)
ALL = list(product(PROCESSES, PROCESSES, CHANGES, STOPS))
# Every second: of any three of these questions, each combination of answers is met.
CASES = [c for c in ALL if SOAK or (c[0] + c[1] + [*CHANGES].index(c[2]) + [*STOPS].index(c[3])) % 2 == 0]
Ends = Callable[[str], Path]


def name_of(before: int, after: int, change: str, stop: str) -> str:
    return f"from-{before}-to-{after}-{change}-{STOPS[stop][0]}"


def arguments(before: int, after: int, change: str, stop: str) -> list[str]:
    """What a run goes on with: as many samples in a step as before, unless that changes."""
    checkpoint = f"runs/begun-{before}/checkpoints/step-{STOPS[stop][0]:08d}.pt"
    batch = ["--data.batch_size", str(BATCH // max(before, after))]
    return [*COMMON.split(), *batch, *CHANGES[change].split(), "--resume", checkpoint]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """The folder of the runs of a framework that went on with something changed; all of them run at once."""

    @once
    def train(framework: str) -> Path:
        folder = tmp_path_factory.mktemp(framework)
        project = Project(
            write(rendered({"framework": framework, "strategy": "ddp", "loggers": []}), folder), "my_project"
        )
        for processes in (1, 2, 1):
            runs = {}
            if not (folder / f"runs/begun-{processes}").exists():
                batch = ["--data.batch_size", str(BATCH // processes)]
                runs[f"begun-{processes}"] = [*COMMON.split(), *batch, "--max_steps", "11"]
            if (folder / "runs/begun-1").exists():
                chosen = [case for case in CASES if case[1] == processes]
                runs |= {name_of(*case): arguments(*case) for case in chosen}
            script = (ROOT / "tests/support/short_runs.py", "my_project", json.dumps(runs), "runs")
            project.run_fork(*script, processes=processes)
        return folder / "runs"

    return train


def goal(before: int, after: int, change: str, stop: str) -> tuple[int, int]:
    """The steps and the samples that a run ends with: whole epochs, but for samples too few for a batch."""
    steps, epoch, samples = STOPS[stop]
    batch = after * (50 if change == "batch" else BATCH // max(before, after))
    accumulate = {"batch": 1, "accumulate": 3}.get(change, BATCH // batch)
    trained = steps * BATCH
    for _ in range(epoch, 4 if change == "epochs" else 3):
        batches = (NUM_SAMPLES - samples) // batch
        steps += math.ceil(batches / accumulate)
        trained += batches * batch
        samples = 0
    return steps, trained


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("before", "after", "change", "stop"), CASES)
def test_a_run_that_goes_on_with_something_changed_trains_whole_epochs_up_to_its_goal(
    ends: Ends, before: int, after: int, change: str, stop: str, say: Say
) -> None:
    begun, expected = STOPS[stop][0], goal(before, after, change, stop)
    metrics = {}
    for framework in FRAMEWORKS:
        run = ends(framework) / name_of(before, after, change, stop)
        metrics[framework] = (run / "metrics.csv").read_text()
        rows = [row.split(",") for row in metrics[framework].splitlines()[1:]]
        steps = [int(step) for step, _, name, _ in rows if name == "train/loss"]
        assert steps == list(range(begun + 1, expected[0] + 1))
        assert [int(epoch) for _, epoch, name, _ in rows if name == "val/loss"] == list(
            range(2, 5 if change == "epochs" else 4)
        )
        assert json.loads((run / "run.json").read_text())["finished"] == steps[-1]
        assert begun * BATCH + int((run / "samples.txt").read_text()) == expected[1]
    assert len(set(metrics.values())) == 1  # to the last digit
    say(
        f"{before} -> {after} processes, {change:10} changed at {stop:15}:"
        f" {expected[0]} steps, {expected[1]} samples in both frameworks"
    )


def begin(framework: str, folder: Path, *settings: str) -> Project:
    project = Project(write(rendered({"framework": framework, "loggers": []}), folder), "my_project")
    project.run_fork(*TRAIN, *settings)
    return project


TRAIN = ("-m", "my_project.train", *COMMON.split(), "--data.batch_size", "160", "--out_dir", "run")


def rates(run: Path) -> list[float]:
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    return [float(value) for _, _, name, value in rows if name == "lr"]


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
@by_framework(15)
def test_a_finished_run_that_is_asked_for_more_epochs_extends_its_schedule_and_says_so(
    framework: str, schedule: str, tmp_path: Path
) -> None:
    chosen = ("--optim.schedule", schedule, "--optim.warmup_steps", "4")
    project = begin(framework, tmp_path, *chosen)
    ended = rates(tmp_path / "run")[-1]
    done = project.start_fork(*TRAIN, *chosen, "--epochs", "6", "--resume", "auto")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "learning rate" in line]
    assert said == [
        f"The learning rate is {rates_of_a_whole_run(schedule, 24, 48):.3g} from here on,"
        f" and was {ended:.3g}: settings have changed."
    ]
    assert rates(tmp_path / "run")[24:] == pytest.approx(
        [rates_of_a_whole_run(schedule, step, 48) for step in range(25, 49)], rel=1e-5, abs=1e-12
    )


def rates_of_a_whole_run(schedule: str, step: int, total: int) -> float:
    """What torch's own schedules give after so many steps of a run of that length."""
    from torch import nn
    from torch.optim import SGD
    from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=3e-3, momentum=0.9)
    chosen: LRScheduler = (
        OneCycleLR(optimizer, max_lr=3e-3, total_steps=total + 1)
        if schedule == "onecycle"
        else CosineAnnealingLR(optimizer, total - 4)
    )
    for _ in range(step if schedule == "onecycle" else step - 4):
        optimizer.step()
        chosen.step()
    return float(chosen.get_last_lr()[0])


@by_framework(4)
def test_a_plateau_after_another_schedule_begins_at_the_rate_of_the_settings(
    framework: str, tmp_path: Path
) -> None:
    project = begin(framework, tmp_path)
    project.run_fork(*TRAIN, "--optim.schedule", "plateau", "--epochs", "4", "--resume", "auto")
    assert rates(tmp_path / "run")[24] in (3e-3, 1.5e-3)  # it judges by all validations of the run


@by_framework(4)
def test_settings_of_the_optimizer_that_change_are_those_of_the_run_from_then_on(
    framework: str, tmp_path: Path
) -> None:
    project = begin(framework, tmp_path)
    changed = ("--optim.weight_decay", "0.5", "--optim.lr", "0.01", "--epochs", "4")
    project.run_fork(*TRAIN, *changed, "--resume", "auto")
    script = (
        "import torch; from pathlib import Path; "
        "state = torch.load(max(Path('run/checkpoints').glob('*.pt')), weights_only=True); "
        "print(state['update']['optimizer']['param_groups'][0]['weight_decay'])"
    )
    assert project.run_fork("-c", script).split() == ["0.5"]
    assert max(rates(tmp_path / "run")[24:]) > 2e-3  # of a peak of 0.01, at three quarters of a cosine


@by_framework(4, 8)
def test_a_run_that_goes_on_with_fewer_or_more_processes_keeps_the_samples_of_a_step(
    framework: str, tmp_path: Path
) -> None:
    files = rendered({"framework": framework, "strategy": "ddp", "loggers": []})
    project = Project(write(files, tmp_path), "my_project")
    settings = ("-m", "my_project.train", "--model.width", "2", "--num_threads", "1", "--epochs", "4")
    on = ("--out_dir", "runs/a", "--resume", "auto")
    project.run_fork(*settings, "--max_steps", "10", *on, processes=2)
    done = project.start_fork(*settings, "--max_steps", "20", *on)
    assert "A step keeps its 128 samples in 1 process: optim.accumulate=2." in done.stderr
    project.run_fork(*settings, "--max_steps", "30", *on)  # again, as after another failure
    project.run_fork(*settings, *on, processes=2)
    assert (tmp_path / "runs/a/metrics.csv").read_text().splitlines()[-1].startswith("40,4,")

    project.run_fork(*settings, "--max_steps", "20", "--out_dir", "runs/b")
    more = (*settings, "--out_dir", "runs/b", "--resume", "auto")
    done = project.start_fork(*more, processes=2)
    assert done.returncode == 1
    assert "runs/b: a step has 64 samples, which 2 processes cannot take in batches of" in done.stderr
    assert "Traceback" not in done.stderr
    project.run_fork(*more, "--data.batch_size", "32", processes=2)
    assert (tmp_path / "runs/b/metrics.csv").read_text().splitlines()[-1].startswith("80,4,")
