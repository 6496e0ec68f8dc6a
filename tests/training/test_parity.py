"""Short runs: both frameworks give the same numbers, to the last bit, computed and saved as was asked for."""

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import keystr, tree_flatten_with_path

from tests.support.projects import FRAMEWORKS, PARALLEL, STRATEGIES, Project, by_framework, rendered, write
from tests.support.proofs import once
from tests.support.releases import ROOT

DTYPES = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}
COMMON = "--epochs 3 --log_every 1 --num_threads 1 --model.width 8 --data.batch_size 120"  # 10 batches
ALONE = {
    "fp32 cosine": "",
    "fp32 plateau": "--epochs 5 --optim.lr 1e-7",  # so small that the loss hardly falls
    "fp32 onecycle": "--optim.accumulate 2",
    "bf16 cosine": "--optim.accumulate 3",  # and the last batch of an epoch by itself
    "bf16 plateau": "",
    "bf16 onecycle": "",
    "fp16 cosine": "",
    "fp16 plateau": "--optim.accumulate 4",
    "fp16 onecycle": "--optim.grad_clip 0",
    "fp32 cosine, validates within epochs": "--validate_every 3 --save_every 2 --optim.accumulate 3",
    "fp32 cosine, stops early": "--patience 1 --optim.lr 0",
    "fp32 cosine, ends within an epoch": "--max_steps 14 --objective.label_smoothing 0.1 --seed 3",
}
TOGETHER = {
    "fp32 cosine": "--optim.accumulate 3",
    "bf16 onecycle": "",
    "fp16 plateau": "",
    "fp16 plateau, resumed": "--resume 'runs/fp16 plateau/checkpoints/step-00000010.pt'",  # its last epoch
}
ShortRuns = Callable[[str, str], dict[str, Path]]


def arguments_of_runs(strategy: str) -> dict[str, list[str]]:
    """Short runs by their names: each precision with each schedule for one process, some for several."""
    runs = {}
    for name, more in (ALONE if strategy == "single" else TOGETHER).items():
        precision, schedule = name.partition(",")[0].split()
        runs[name] = shlex.split(f"{COMMON} --precision {precision} --optim.schedule {schedule} {more}")
    return runs


RUNS = [(strategy, name) for strategy in STRATEGIES for name in arguments_of_runs(strategy)]
FIRST, *OTHERS = FRAMEWORKS


@pytest.fixture(scope="module")
def short_runs(tmp_path_factory: pytest.TempPathFactory) -> ShortRuns:
    """Train the short runs of a framework and a strategy, once; return their folders by their names."""

    @once
    def train(framework: str, strategy: str) -> dict[str, Path]:
        folder = tmp_path_factory.mktemp(f"{framework}-{strategy}")
        write(rendered({"framework": framework, "strategy": strategy, "loggers": []}), folder)
        runs = arguments_of_runs(strategy)
        script = (ROOT / "tests/support/short_runs.py", "my_project", json.dumps(runs), "runs")
        Project(folder, "my_project").run_fork(*script, processes=1 if strategy == "single" else 2)
        return {name: folder / "runs" / name for name in runs}

    return train


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
def test_both_frameworks_keep_the_same_best_weights_and_draw_from_the_same_sums(
    short_runs: ShortRuns, other: str, strategy: str, name: str
) -> None:
    for file in ("best.pt", "sums.pt"):
        ours, theirs = (
            torch.load(short_runs(framework, strategy)[name] / file, weights_only=True)
            for framework in (FIRST, other)
        )
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(("strategy", "name"), RUNS)
@pytest.mark.parametrize("other", OTHERS)
def test_both_frameworks_write_the_same_checkpoints(
    short_runs: ShortRuns, other: str, strategy: str, name: str
) -> None:
    ours, theirs = (
        {path.name: what_training_changes(path) for path in (folder[name] / "checkpoints").glob("step-*.pt")}
        for folder in (short_runs(framework, strategy) for framework in (FIRST, other))
    )
    assert len(ours) in (1, 2)
    assert ours.keys() == theirs.keys()
    for step, state in ours.items():
        assert state.keys() == theirs[step].keys()
        assert not [part for part, value in state.items() if not same(value, theirs[step][part])], step


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
    assert len(metrics(runs["fp32 cosine, stops early"])["val/loss"]) == 2  # of 3 epochs
    whole, ended = (metrics(runs[f"fp32 cosine{name}"]) for name in ("", ", ends within an epoch"))
    assert (len(whole["train/loss"]), len(whole["val/loss"])) == (30, 3)
    assert (len(ended["train/loss"]), len(ended["val/loss"])) == (14, 2)


@pytest.mark.parametrize("strategy", STRATEGIES)
@by_framework(10)
def test_a_step_computes_in_the_number_format_that_was_asked_for(
    short_runs: ShortRuns, framework: str, strategy: str
) -> None:
    """Lightning's own 16-mixed would be bfloat16 on a CPU."""
    for name, run in short_runs(framework, strategy).items():
        assert json.loads((run / "dtypes.json").read_text()) == [DTYPES[name.split()[0]]], name


def find_scale(state: object) -> float | None:
    """The factor of a gradient scaler anywhere in a checkpoint."""
    if not isinstance(state, dict):
        return None
    if {"scale", "growth_factor"} <= state.keys():
        return float(state["scale"])
    return next((scale for value in state.values() if (scale := find_scale(value))), None)


@pytest.mark.parametrize("strategy", STRATEGIES)
@by_framework(10)
def test_a_float16_checkpoint_holds_the_gradient_scaler(
    short_runs: ShortRuns, framework: str, strategy: str
) -> None:
    for name, run in short_runs(framework, strategy).items():
        newest = max((run / "checkpoints").glob("step-*.pt"))
        scale = find_scale(torch.load(newest, weights_only=True))
        assert bool(scale) == name.startswith("fp16"), name


def what_training_changes(checkpoint: Path) -> dict[str, object]:
    """All of a checkpoint but for versions, by where it is in it."""
    state = torch.load(checkpoint, weights_only=True)
    del state["versions"]
    values, _ = tree_flatten_with_path(state)
    return {keystr(path): value for path, value in values}


@pytest.mark.parametrize("strategy", PARALLEL)
@by_framework(6, 8)
def test_a_run_of_several_processes_goes_on_as_if_it_had_not_stopped(
    short_runs: ShortRuns, framework: str, strategy: str
) -> None:
    runs = short_runs(framework, strategy)
    whole, resumed = (runs[f"fp16 plateau{name}"] for name in ("", ", resumed"))
    states = [what_training_changes(run / "checkpoints/step-00000015.pt") for run in (whole, resumed)]
    assert states[0].keys() == states[1].keys()
    different = [name for name, value in states[0].items() if not same(value, states[1][name])]
    assert not different
    rows, again = ((run / "metrics.csv").read_text().splitlines()[1:] for run in (whole, resumed))
    assert again == [row for row in rows if int(row.split(",")[0]) > 10]


def same(ours: object, theirs: object) -> bool:
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return torch.equal(ours, theirs)
    return ours == theirs


@by_framework(8)
def test_sharded_states_are_saved_as_if_nothing_were_sharded(short_runs: ShortRuns, framework: str) -> None:
    """So ddp, fsdp and one process can read what another has written."""
    sharded, copied = (
        what_training_changes(
            short_runs(framework, strategy)["fp16 plateau"] / "checkpoints/step-00000015.pt"
        )
        for strategy in ("fsdp", "ddp")
    )
    assert form(sharded) == form(copied)


def form(state: dict[str, object]) -> dict[str, object]:
    """What a state holds, but for the values."""
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    return dict.fromkeys(state) | {name: (value.shape, value.dtype) for name, value in tensors.items()}
