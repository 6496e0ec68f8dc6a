"""A new project trains, and leaves behind what its README says."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils._pytree import keystr, tree_flatten_with_path

from tests.command import mlscaffold
from tests.conftest import Say
from tests.projects import FRAMEWORKS, PARALLEL, STRATEGIES, Project, ShortRuns, by_framework
from tests.readers import READERS, MLflow, Wandb, pixels

DTYPES = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}
MOST_CPU = 60  # seconds of a default run: half a minute on two cores
METRICS = ["lr", "train/loss", "val/accuracy", "val/f1", "val/loss"]
MEASURED = ["memory/peak_mb", "train/samples_per_second", "train/step_time"]  # which no run repeats


@dataclass(frozen=True)
class Trained:
    """A project that has trained as it came."""

    project: Project
    cpu_seconds: float

    @property
    def run(self) -> Path:
        return self.project.folder / "runs/default"


GetTrained = Callable[[str], Trained]


def new(folder: Path, *flags: str) -> Project:
    """Make a project in the way its users do."""
    assert mlscaffold("new", "my-digits", *flags, cwd=folder).code == 0
    return Project(folder / "my-digits", "my_digits")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> GetTrained:
    """Train a new project of a framework, with all loggers at once, once."""

    @cache
    def train(framework: str) -> Trained:
        flags = ("--framework", framework, "--loggers", ",".join(READERS))
        project = new(tmp_path_factory.mktemp(framework), *flags)
        begin = cpu_seconds()
        project.run("-m", f"{project.package}.train")
        return Trained(project, cpu_seconds() - begin)

    return train


def cpu_seconds() -> float:
    """What all processes that these tests started have computed, whatever else the machine did meanwhile."""
    times = os.times()
    return times.children_user + times.children_system


def settings(run: Path) -> dict[str, object]:
    """The settings in `config.yaml`, by dotted name, but for none, which TensorBoard has no value for."""

    def flat(tree: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            elif value is not None:
                yield f"{prefix}{name}", value

    return dict(flat(yaml.safe_load((run / "config.yaml").read_text())))


@by_framework(2)
def test_a_new_project_trains_in_its_bound_and_reads_digits_it_has_not_seen(
    trained: GetTrained, framework: str, say: Say
) -> None:
    done = trained(framework)
    said = done.project.run("-m", f"{done.project.package}.evaluate")
    accuracy = dict(line.split() for line in said.splitlines())["test/accuracy"]
    say(f"{framework}: {done.cpu_seconds:.0f} s of one core, test accuracy {accuracy}")
    assert float(accuracy) > 0.95
    assert done.cpu_seconds < MOST_CPU


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_best_weights_load_where_only_torch_is(trained: GetTrained, framework: str) -> None:
    script = (
        "import sys, torch\n"
        "weights = torch.load('best.pt', weights_only=True)\n"
        "assert weights and all(type(value) is torch.Tensor for value in weights.values())\n"
        "assert not {'ignite', 'pytorch_lightning', 'my_digits'} & set(sys.modules)\n"
        "print(*weights)"
    )
    done = trained(framework)
    names = Project(done.run, "-").run("-c", script).split()
    assert "head.weight" in names
    assert not [name for name in names if name.startswith(("net.", "module.", "_orig_mod."))]


@pytest.mark.parametrize("logger", READERS)
@by_framework(12)
def test_a_logger_shows_the_curves_of_metrics_csv(trained: GetTrained, framework: str, logger: str) -> None:
    run = trained(framework).run
    shown = READERS[logger](run).curves()
    assert list(shown) == sorted([*METRICS, *MEASURED])
    rows = [row.split(",") for row in (run / "metrics.csv").read_text().splitlines()[1:]]
    for name in METRICS:
        written = [(int(row[0]), float(row[3])) for row in rows if row[2] == name]
        assert [step for step, _ in shown[name]] == [step for step, _ in written]
        values = [value for _, value in written]
        assert [value for _, value in shown[name]] == pytest.approx(values, rel=1e-5)  # written with 6 digits


@pytest.mark.parametrize("logger", READERS)
@by_framework(12, 16)
def test_a_logger_shows_every_setting_of_the_run(trained: GetTrained, framework: str, logger: str) -> None:
    run = trained(framework).run
    shown = {
        name: value for name, value in READERS[logger](run).hyperparameters().items() if str(value) != "None"
    }
    assert shown == {
        name: str(value) if logger == "mlflow" else value for name, value in settings(run).items()
    }


@pytest.mark.parametrize("logger", READERS)
@by_framework(12)
def test_a_logger_shows_the_pictures_of_the_run(trained: GetTrained, framework: str, logger: str) -> None:
    run = trained(framework).run
    shown = READERS[logger](run).pictures()
    assert set(shown) == {"confusion", "curves"}
    for name, picture in shown.items():
        assert (picture == pixels(run / f"{name}.png")).all()


@pytest.mark.parametrize("logger", READERS)
def test_a_logger_shows_the_same_curves_for_every_framework(trained: GetTrained, logger: str) -> None:
    curves = [READERS[logger](trained(framework).run).curves() for framework in FRAMEWORKS]
    first, *others = ({name: shown[name] for name in METRICS} for shown in curves)
    assert all(other == first for other in others)


@pytest.mark.parametrize("logger", READERS)
@by_framework(11, 14, 17)
def test_a_logger_shows_speed_and_memory(trained: GetTrained, framework: str, logger: str) -> None:
    shown = READERS[logger](trained(framework).run).curves()
    steps = [step for step, _ in shown["train/loss"]]
    assert all([step for step, _ in shown[name]] == steps for name in MEASURED)
    for (_, rate), (_, seconds) in zip(
        shown["train/samples_per_second"], shown["train/step_time"], strict=True
    ):
        assert rate * seconds == pytest.approx(64, rel=1e-4)  # samples in a step
    assert all(100 < megabytes < 100_000 for _, megabytes in shown["memory/peak_mb"])  # torch alone is more


FAIL_AND_GO_ON = """
from dataclasses import replace
from pathlib import Path

from my_digits import parallel, train
from my_digits.config import Config
from my_digits.model import ModelConfig
from my_digits.processes import rank

def fail(epoch, score):
    if epoch == 2:
        raise RuntimeError("enough")

cfg = Config(epochs=3, num_threads=1, log_every=2, model=ModelConfig(width=8))
with parallel.process_group():
    try:
        train.run(cfg, fail)
    except RuntimeError as error:
        assert str(error) == "enough"
    if rank() == 0:
        from mlflow import MlflowClient
        run_id = Path("runs/default/mlflow-run-id.txt").read_text().strip()
        print(MlflowClient("sqlite:///runs/default/mlflow.db").get_run(run_id).info.status)
    train.run(replace(cfg, resume="auto"))
"""


@by_framework(12)
def test_the_first_process_alone_logs_and_an_error_and_a_resume_lose_nothing(
    tmp_path: Path, framework: str
) -> None:
    project = new(tmp_path, "--framework", framework, "--ddp", "--loggers", ",".join(READERS))
    (project.folder / "script.py").write_text(FAIL_AND_GO_ON)
    done = project.start("script.py", processes=2)
    assert done.returncode == 0, done.stderr
    assert not re.search("wandb:|mlflow|alembic", done.stderr), done.stderr
    assert "FAILED" in done.stdout.splitlines()
    run = project.folder / "runs/default"
    rows = [row.split(",") for row in (run / "metrics.csv").read_text().splitlines()[1:]]
    written = {(row[2], int(row[0])) for row in rows}
    for reader in READERS.values():
        curves = reader(run).curves()
        shown = {(name, step) for name in METRICS for step, _ in curves[name]}
        assert shown == written
    assert MLflow(run).status == "FINISHED"
    assert Wandb(run).exit_codes == [1, 0]


def test_a_run_folder_holds_the_same_files_in_every_framework(trained: GetTrained) -> None:
    first, *others = (
        {path.name for path in run.iterdir()} for run in (trained(framework).run for framework in FRAMEWORKS)
    )
    assert all(other == first for other in others)
    files = {"config.yaml", "metrics.csv", "best.pt", "best.json", "curves.png", "confusion.png"}
    assert files < first


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
    """Weights, optimizer, schedule and scaler of a checkpoint, by where they are in it."""
    state = torch.load(checkpoint, weights_only=True)
    parts = {"state_dict", "optimizer_states", "lr_schedulers", "MixedPrecision"}  # Lightning's
    parts |= {"model", "optimizer", "schedule", "scaler"}  # Ignite's
    values, _ = tree_flatten_with_path({name: state[name] for name in parts & set(state)})
    return {keystr(path): value for path, value in values}


@pytest.mark.parametrize("strategy", PARALLEL)
@by_framework(6, 8)
def test_a_run_of_several_processes_goes_on_as_if_it_had_not_stopped(
    short_runs: ShortRuns, framework: str, strategy: str
) -> None:
    runs = short_runs(framework, strategy)
    whole, resumed = (runs[f"fp16 plateau{name}"] for name in ("", ", resumed"))
    states = [what_training_changes(run / "checkpoints/step-00000025.pt") for run in (whole, resumed)]
    assert states[0].keys() == states[1].keys()
    different = [name for name, value in states[0].items() if not same(value, states[1][name])]
    assert not different
    rows, again = ((run / "metrics.csv").read_text().splitlines()[1:] for run in (whole, resumed))
    assert again == [row for row in rows if int(row.split(",")[0]) > 20]


def same(ours: object, theirs: object) -> bool:
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return torch.equal(ours, theirs)
    return ours == theirs


@by_framework(8)
def test_sharded_states_are_saved_as_if_nothing_were_sharded(short_runs: ShortRuns, framework: str) -> None:
    """So ddp, fsdp and one process can read what another has written."""
    sharded, copied = (
        what_training_changes(
            short_runs(framework, strategy)["fp16 plateau"] / "checkpoints/step-00000025.pt"
        )
        for strategy in ("fsdp", "ddp")
    )
    assert form(sharded) == form(copied)


def form(state: dict[str, object]) -> dict[str, object]:
    """What a state holds, but for the values."""
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    return dict.fromkeys(state) | {name: (value.shape, value.dtype) for name, value in tensors.items()}


@pytest.mark.parametrize("strategy", ["single", *PARALLEL])
@by_framework(24)
def test_the_tests_of_a_new_project_pass_before_it_is_installed(
    framework: str, strategy: str, tmp_path: Path
) -> None:
    project = new(tmp_path, "--framework", framework, "--strategy", strategy)
    said = project.run("-m", "pytest", "-q")
    assert " passed" in said
    assert "skipped" not in said
