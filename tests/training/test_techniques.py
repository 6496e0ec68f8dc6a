"""What a setting promises is what a run does, alone and in two processes, in both frameworks."""

import csv
import json
import runpy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mlscaffold.catalogue.questions import Answers
from tests.support.projects import CATALOGUE, Project, by_framework, by_pair, rendered, write
from tests.support.proofs import once
from tests.support.releases import ROOT

APART = ("framework",)  # share nothing, so they may run in several processes
SCRIPT = ROOT / "tests/support/technique_runs.py"
LOGGERS = [str(value) for value in CATALOGUE["loggers"].values]
TOGETHER = [
    "plain",
    "averaged",
    "average_resumed",
    "checkpointed",
    "within_epochs",
    "started",
    "eager",
    "accumulated",
]
ALONE = [*TOGETHER, "channels_last", "three_best", "three_best_resumed", "lowest", "compiled"]

Runs = Callable[..., Path]  # of a framework and a strategy


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Train the runs of a framework and a strategy, once; return the folder that they lie in."""

    @once
    def train(framework: str, strategy: str = "single") -> Path:
        folder = tmp_path_factory.mktemp(f"{framework}-{strategy}")
        write(rendered({"framework": framework, "strategy": strategy, "loggers": []}), folder)
        alone = strategy == "single"
        names = ALONE if alone else TOGETHER
        Project(folder, "my_project").run_fork(
            SCRIPT, "my_project", "runs", *names, processes=1 if alone else 2
        )
        return folder / "runs"

    return train


def metrics(run: Path, name: str) -> list[float]:
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return [float(row["value"]) for row in rows if row["name"] == name]


def noted(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(f"{run}.pt", weights_only=True)
    return content


def weights(path: Path) -> dict[str, Tensor]:
    content: dict[str, Tensor] = torch.load(path, weights_only=True)
    return content


def best(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "best.json").read_text())
    return content


@by_framework(13)
def test_the_f1_score_is_that_of_scikit_learn(runs: Runs, framework: str) -> None:
    run = runs(framework) / "plain"
    assert max(metrics(run, "val/f1")) == pytest.approx(noted(run)["f1"], abs=1e-5)


@by_pair(4, alone=True)
def test_best_weights_are_the_moving_average_of_those_of_all_steps(
    runs: Runs, framework: str, strategy: str
) -> None:
    run = runs(framework, strategy) / "averaged"
    kept = list(weights(run / "best.pt").values())
    expected = noted(run)["averages"][best(run)["step"]]
    for value, average in zip(sorted(kept, key=lambda w: w.ndim <= 1), expected, strict=True):
        torch.testing.assert_close(value.double(), average, rtol=1e-5, atol=1e-6)
    assert metrics(run, "train/loss") == metrics(run.with_name("plain"), "train/loss")  # it only looks on
    assert metrics(run, "val/loss") != metrics(run.with_name("plain"), "val/loss")


@by_pair(4, alone=True)
def test_an_average_goes_on_exactly_after_a_stop(runs: Runs, framework: str, strategy: str) -> None:
    whole, stopped = (runs(framework, strategy) / name for name in ("averaged", "average_resumed"))
    for name in ("metrics.csv", "best.json", "best.pt", "sums.pt"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes(), name


@by_pair(11, alone=True)
def test_activation_checkpointing_computes_twice_and_changes_no_number(
    runs: Runs, framework: str, strategy: str
) -> None:
    run = runs(framework, strategy) / "checkpointed"
    plain = run.with_name("plain")
    for name in ("metrics.csv", "best.json", "best.pt", "sums.pt"):
        assert (run / name).read_bytes() == (plain / name).read_bytes(), name
    batches = 2 * (10 if strategy == "single" else 5)
    assert noted(run)["convolutions"] == 2 * 2 * batches  # in two blocks


@by_framework(11)
def test_channels_last_is_the_format_that_convolutions_compute_in(runs: Runs, framework: str) -> None:
    run = runs(framework) / "channels_last"
    assert noted(run)["channels_last"] is True
    plain = metrics(run.with_name("plain"), "train/loss")
    assert metrics(run, "train/loss") == pytest.approx(plain[:10], rel=1e-3)


@by_pair(17, alone=True)
def test_a_profile_shows_the_operations_of_a_few_steps(runs: Runs, framework: str, strategy: str) -> None:
    folder = runs(framework, strategy) / "checkpointed" / "profile"
    names = ["trace"] if strategy == "single" else ["rank-0", "rank-1"]
    assert sorted(path.name.partition(".")[0] for path in folder.iterdir()) == names
    for path in folder.iterdir():
        events = json.loads(path.read_text())["traceEvents"]
        steps = {event["name"] for event in events if event["name"].startswith("ProfilerStep#")}
        assert steps == {f"ProfilerStep#{number}" for number in range(4, 10)}
        assert any(event["name"] == "aten::convolution" for event in events)


@by_framework(4)
def test_the_best_weights_of_several_validations_are_kept(runs: Runs, framework: str) -> None:
    run = runs(framework) / "three_best"
    scores = {10 * epoch: score for epoch, score in enumerate(metrics(run, "val/accuracy"), 1)}
    ranked = sorted(scores, key=lambda step: (-scores[step], step))
    assert {path.name for path in (run / "best").iterdir()} == {f"step-{step:08}.pt" for step in ranked[:3]}
    assert best(run)["step"] == ranked[0]
    first = weights(run / "best" / f"step-{ranked[0]:08}.pt")
    kept = weights(run / "best.pt")
    assert all(torch.equal(first[name], kept[name]) for name in kept)
    second = weights(run / "best" / f"step-{ranked[1]:08}.pt")
    assert not all(torch.equal(second[name], kept[name]) for name in kept)


@by_framework(3, 4, 30)
def test_best_weights_and_early_stopping_follow_the_direction_of_the_score(
    runs: Runs, framework: str
) -> None:
    run = runs(framework) / "lowest"
    scores = {10 * epoch: score for epoch, score in enumerate(metrics(run, "val/loss"), 1)}
    ranked = sorted(scores, key=lambda step: (scores[step], step))
    assert {path.name for path in (run / "best").iterdir()} == {f"step-{step:08}.pt" for step in ranked[:3]}
    assert best(run)["step"] == ranked[0]
    assert best(run)["score"] == pytest.approx(scores[ranked[0]], rel=1e-5)
    assert max(scores) == min(ranked[0] + 30, 120)  # it stops after three that were no better
    assert ranked[0] > 40  # by the other direction the first would be the best, and the run end there


@by_framework(26)
def test_a_new_run_starts_from_the_weights_of_an_earlier_release(
    runs: Runs, framework: str, tmp_path: Path
) -> None:
    project = Project(runs(framework).parent, "my_project")
    old = ROOT / "tests/training/run-of-0.7.2"
    project.run_fork(
        *("-m", "my_project.train", "--init_from", old, "--out_dir", tmp_path / "run"),
        *("--model.width", "2", "--max_steps", "1", "--optim.lr", "0"),
    )
    before, after = weights(old / "best.pt"), weights(tmp_path / "run/best.pt")
    assert all(torch.equal(before[name], after[name]) for name in after)


@by_framework(4)
def test_a_resumed_run_keeps_the_best_of_all_its_validations(runs: Runs, framework: str) -> None:
    whole, stopped = (runs(framework) / name for name in ("three_best", "three_best_resumed"))
    files = {path.name: path.read_bytes() for path in (whole / "best").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (stopped / "best").iterdir()}


@by_pair(9, alone=True)
def test_accumulated_steps_are_those_of_large_batches(runs: Runs, framework: str, strategy: str) -> None:
    parts, whole = (runs(framework, strategy) / name for name in ("accumulated", "eager"))
    ours, theirs = (metrics(run, "train/loss") for run in (parts, whole))
    *full, last = ours  # the last step is of the few batches that are left at the end of the epoch
    assert full == pytest.approx(theirs, rel=1e-3)
    assert last < full[0]


@by_pair(2, 4, alone=True)
def test_validations_and_checkpoints_come_within_epochs_where_they_are_asked_for(
    runs: Runs, framework: str, strategy: str
) -> None:
    run = runs(framework, strategy) / "within_epochs"
    last = 20 if strategy == "single" else 10
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    validated = [*range(4, last, 4), last]
    assert [int(row["step"]) for row in rows if row["name"] == "val/loss"] == validated
    assert noted(run)["saved"] == sorted({*validated, *range(3, last, 3)})
    assert metrics(run, "train/loss") == metrics(run.with_name("plain"), "train/loss")  # it only looks on


@by_pair(4, alone=True)
def test_a_new_run_starts_from_the_best_weights_of_another(runs: Runs, framework: str, strategy: str) -> None:
    folder = runs(framework, strategy)
    kept = sorted(weights(folder / "plain/best.pt").values(), key=lambda w: w.ndim <= 1)
    for first in noted(folder / "started")["first"]:
        assert all(torch.equal(*pair) for pair in zip(first, kept, strict=True))


@by_framework(4)
def test_what_a_new_run_cannot_start_from_is_named_in_a_line(
    runs: Runs, framework: str, tmp_path: Path
) -> None:
    folder = runs(framework)
    other = weights(folder / "plain/best.pt")
    torch.save(other | {"head.weight": other["head.weight"][:5]}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    project = Project(folder.parent, "my_project")
    for name, reason in (
        ("none", "No such file"),
        ("text.pt", "cannot be used"),
        ("other.pt", "head.weight"),
    ):
        settings = ("--init_from", tmp_path / name, "--model.width", "8", "--out_dir", tmp_path / "run")
        done = project.start_fork("-m", "my_project.train", *settings)
        assert done.returncode == 1
        *_, said = done.stderr.splitlines()
        assert said.startswith(f"error: {'init_from=' if name != 'other.pt' else ''}{tmp_path / name}")
        assert reason in said
        assert done.stderr.count("\n") == 2  # the first says that PyTorch is being loaded
        assert not (tmp_path / "run").exists()


@by_pair(7)
def test_batch_statistics_that_cannot_be_shared_are_refused_in_a_line(
    runs: Runs, framework: str, strategy: str
) -> None:
    """The backends for CPUs cannot do it; with one process there is nothing to share."""
    project = Project(runs(framework, strategy).parent, "my_project")
    settings = (
        "-m",
        "my_project.train",
        "--sync_batchnorm",
        "true",
        "--max_steps",
        "1",
        "--model.width",
        "8",
    )
    done = project.start_fork(*settings, processes=2)
    assert done.returncode == 1
    assert "error: sync_batchnorm=true: torch shares BatchNorm's statistics between GPUs only." in done.stderr
    assert "Traceback" not in done.stderr
    project.run_fork(*settings, "--out_dir", "runs/alone")


@by_framework(1)
def test_nothing_is_read_from_the_device_between_points_of_the_curve(framework: str, tmp_path: Path) -> None:
    """With every logger, monitoring, an average of the weights, clipping and a schedule."""
    answers: Answers = {"framework": framework, "loggers": LOGGERS, "monitoring": "prometheus"}
    project = Project(write(rendered(answers), tmp_path), "my_project")
    project.run_fork(SCRIPT, "my_project", "runs", "reads")
    counts = noted(tmp_path / "runs/reads")["reads"]
    assert len(counts) == 20
    during = [after - before for before, after in pairwise(counts)]  # from step to step
    assert [count for step, count in enumerate(during, 1) if step % 5] == [0] * 16
    assert all(count > 0 for step, count in enumerate(during, 1) if step % 5 == 0)


@by_framework(17)
def test_a_compiled_network_trains_alike_and_its_weights_have_plain_names(runs: Runs, framework: str) -> None:
    folder = runs(framework)
    compiled, eager = folder / "compiled", folder / "eager"
    assert metrics(compiled, "train/loss") == pytest.approx(metrics(eager, "train/loss"), rel=1e-3)
    assert weights(compiled / "best.pt").keys() == weights(eager / "best.pt").keys()


def test_what_a_step_draws_depends_on_nothing_but_its_place(tmp_path: Path) -> None:
    """Seeds of many steps are made at once, also for a run that goes on in the middle of them."""
    folder = write(rendered({"loggers": []}), tmp_path)
    module = runpy.run_path(str(folder / "src/my_project/seeding.py"))
    for keys in [(3, 5, 0), (3, 63, 0), (3, 64, 0), (3, 5, 1), (4, 5, 0), (3, 6_400_000, 2), (3, 5, 0)]:
        module["seed_step"](*keys)
        alone = torch.Generator().manual_seed(module["seed_for"](*keys))
        assert torch.equal(torch.rand(4), torch.rand(4, generator=alone)), keys
