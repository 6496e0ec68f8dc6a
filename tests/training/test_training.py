"""A new project trains, and leaves behind what its README says."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from mlscaffold.catalogue.questions import Answer
from tests.conftest import Say
from tests.support.projects import FRAMEWORKS, SOAK, Project, by_framework, by_pair, rendered, write
from tests.support.proofs import once
from tests.support.readers import READERS, MLflow, TensorBoard, Wandb, pixels

pytestmark = pytest.mark.cold  # what a user meets first

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
        return self.project.folder / "runs/0001"


GetTrained = Callable[[str], Trained]


def new(folder: Path, **answers: Answer) -> Project:
    """A project as its users make it; tests of the tool show that the command writes the same."""
    return Project(write(rendered({"project": "my-digits", **answers}), folder / "my-digits"), "my_digits")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> GetTrained:
    """Train a new project of a framework, with all loggers at once, once, as a user does."""

    @once
    def train(framework: str) -> Trained:
        project = new(tmp_path_factory.mktemp(framework), framework=framework, loggers=[*READERS])
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
    said = done.project.run_fork("-m", f"{done.project.package}.evaluate")
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

from my_digits import train
from my_digits.config import Config
try:
    from my_digits.distributed.processes import process_group, rank
except ModuleNotFoundError:  # a project that trains in one process
    from contextlib import nullcontext as process_group
    rank = lambda: 0
from my_digits.task.settings import ModelConfig

def fail(samples, score):
    if samples > 1297:
        raise RuntimeError("enough")

cfg = Config(epochs=3, num_threads=1, log_every=2, model=ModelConfig(width=8))
with process_group(600):
    try:
        train.run(cfg, fail)
    except RuntimeError as error:
        assert str(error) == "enough"
    if rank() == 0:
        from mlflow import MlflowClient
        run_id = Path("runs/0001/mlflow-run-id.txt").read_text().strip()
        print(MlflowClient("sqlite:///runs/0001/mlflow.db").get_run(run_id).info.status)
    train.run(replace(cfg, resume="auto"))
"""


@by_framework(12)
def test_the_first_process_alone_logs_and_an_error_and_a_resume_lose_nothing(
    tmp_path: Path, framework: str
) -> None:
    project = new(tmp_path, framework=framework, strategy="ddp", loggers=[*READERS])
    (project.folder / "script.py").write_text(FAIL_AND_GO_ON)
    done = project.start_fork("script.py", processes=2)
    assert done.returncode == 0, done.stderr
    assert not re.search("wandb:|mlflow|alembic", done.stderr), done.stderr
    assert "FAILED" in done.stdout.splitlines()
    run = project.folder / "runs/0001"
    rows = [row.split(",") for row in (run / "metrics.csv").read_text().splitlines()[1:]]
    written = {(row[2], int(row[0])) for row in rows}
    for reader in READERS.values():
        curves = reader(run).curves()
        shown = {(name, step) for name in METRICS for step, _ in curves[name]}
        assert shown == written
    steps = [step for step, _ in TensorBoard(run).curves()["train/loss"]]
    assert steps == sorted(set(steps))  # those that were repeated are shown once
    assert MLflow(run).status == "FINISHED"
    assert Wandb(run).exit_codes == [1, 0]


def test_a_run_folder_holds_the_same_files_in_every_framework(trained: GetTrained) -> None:
    first, *others = (
        {path.name for path in run.iterdir()} for run in (trained(framework).run for framework in FRAMEWORKS)
    )
    assert all(other == first for other in others)
    files = {"config.yaml", "metrics.csv", "best.pt", "best.json", "run.json", "curves.png", "confusion.png"}
    assert files < first


@pytest.mark.soak
@by_framework(24)
def test_the_tests_of_a_new_project_pass_before_it_is_installed(framework: str, tmp_path: Path) -> None:
    """In `make test` they are forks; started as a user does, they are all found, and a part of them runs."""
    project = new(tmp_path, framework=framework)
    run = project.run if SOAK else project.run_fork
    assert_all_passed(run("-m", "pytest", "-q"))
    if framework == FRAMEWORKS[0] and not SOAK:
        assert_all_passed(
            project.run("-m", "pytest", "-q", "-k", "test_config or test_files or test_loading")
        )


@by_pair(24)
def test_the_tests_of_a_new_project_for_several_processes_pass(
    framework: str, strategy: str, tmp_path: Path
) -> None:
    """Those that a project for one process has, too, run in `make soak` only."""
    project = new(tmp_path, framework=framework, strategy=strategy)
    alone = rendered({"framework": framework}).tests
    tests = rendered({"framework": framework, "strategy": strategy}).tests
    own = [name for name, text in tests.items() if text != alone.get(name)]
    assert_all_passed(project.run_fork("-m", "pytest", "-q", *([] if SOAK else own)))


def assert_all_passed(said: str) -> None:
    assert " passed" in said
    assert "skipped" not in said
