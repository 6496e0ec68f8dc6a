"""Both frameworks give the same numbers, to the last bit."""

import csv
from pathlib import Path

import pytest
import torch

from tests.projects import FRAMEWORKS, STRATEGIES, ShortRuns, arguments_of_runs, by_framework

RUNS = [(strategy, name) for strategy in STRATEGIES for name in arguments_of_runs(strategy)]
FIRST, *OTHERS = FRAMEWORKS


def metrics(run: Path) -> dict[str, list[float]]:
    """The values that a run logged, by name."""
    values: dict[str, list[float]] = {}
    for row in csv.DictReader((run / "metrics.csv").read_text().splitlines()):
        values.setdefault(row["name"], []).append(float(row["value"]))
    return values


@pytest.mark.parametrize(("strategy", "name"), RUNS)
@pytest.mark.parametrize("other", OTHERS)
def test_both_frameworks_log_the_same_losses_and_scores(
    short_runs: ShortRuns, other: str, strategy: str, name: str
) -> None:
    ours, theirs = short_runs(FIRST, strategy)[name], short_runs(other, strategy)[name]
    for file in ("metrics.csv", "best.json"):
        assert (ours / file).read_bytes() == (theirs / file).read_bytes()


@pytest.mark.parametrize(("strategy", "name"), RUNS)
@pytest.mark.parametrize("other", OTHERS)
def test_both_frameworks_keep_the_same_best_weights(
    short_runs: ShortRuns, other: str, strategy: str, name: str
) -> None:
    ours, theirs = (
        torch.load(short_runs(framework, strategy)[name] / "best.pt", weights_only=True)
        for framework in (FIRST, other)
    )
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_runs_that_are_compared_do_different_things(
    short_runs: ShortRuns, framework: str, strategy: str
) -> None:
    """Equal numbers would mean little if settings had no effect."""
    runs = short_runs(framework, strategy)
    losses = {name: tuple(metrics(run)["train/loss"]) for name, run in runs.items()}
    assert len(set(losses.values())) == len(losses)
    assert all(len(values) >= 5 for values in losses.values())


@by_framework(3, 15)
def test_the_runs_that_are_compared_reach_what_is_special_in_them(
    short_runs: ShortRuns, framework: str
) -> None:
    runs = short_runs(framework, "single")
    rates = metrics(runs["fp32 plateau"])["lr"]
    assert rates[0] / rates[-1] == pytest.approx(2)  # a plateau was met
    rates = metrics(runs["fp32 onecycle"])["lr"]
    assert rates[0] < max(rates) > rates[-1]
    assert len(metrics(runs["fp32 cosine, stops early"])["val/loss"]) == 2  # of 5 epochs
    whole, ended = (metrics(runs[f"fp32 cosine{name}"]) for name in ("", ", ends within an epoch"))
    assert (len(whole["train/loss"]), len(whole["val/loss"])) == (50, 5)
    assert (len(ended["train/loss"]), len(ended["val/loss"])) == (14, 2)
