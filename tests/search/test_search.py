"""A search keeps each of its trials, whatever happens to its workers, on real servers."""

import os
import secrets
import signal
import subprocess
import time
import warnings
from collections import Counter
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalRedisBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from tests.support import forks, proofs
from tests.support.forks import PROC, left_behind
from tests.support.forkserver import MARK
from tests.support.projects import FRAMEWORKS, SOAK, Project, by_framework, rendered, times, write

pytestmark = pytest.mark.skipif(not PROC.is_dir(), reason="workers are looked up in /proc")

WORKERS, TRIALS = times(2, 4), times(8, 40)
SHORT = ["--epochs", "1", "--log_every", "5", "--num_threads", "1", "--pruner", "none"]
ONLY_SOAK = pytest.mark.skipif(not SOAK, reason="make soak")
FILE = "runs/search/journal.log"
SPY = """

_run = run


def run(cfg: Config, report: Callable[[int, float], None] | None = None) -> float:
    reports = []

    def spy(samples: int, score: float) -> None:
        reports.append((samples, score))
        report(samples, score)

    try:
        return _run(cfg, spy)
    finally:
        seen = [str(cfg.out_dir), cfg.flat(), reports, type(sys.exception()).__name__]
        with open(f"seen-{os.environ['RANK']}.txt", "a") as file:
            print(seen, file=file)
"""


class Search:
    """A `tune` command that runs; all processes that it starts bear a mark."""

    def __init__(self, project: Project, *arguments: str, cold: bool = False, **settings: str) -> None:
        self.project, self.mark = project, secrets.token_hex(8)
        with proofs.apart():
            self.process = subprocess.Popen(
                [forks.python(cold=cold), "-m", f"{project.package}.tune", *SHORT, *arguments],
                cwd=project.folder,
                env=project.settings | {MARK: self.mark} | settings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
            )

    def end(self, code: int = 0) -> str:
        """Wait until it has ended as expected and left no process behind; return what it printed."""
        said, _ = self.process.communicate(timeout=500)
        logs = "".join(path.read_text() for path in self.project.folder.glob("runs/*/worker-*.log"))
        assert self.process.returncode == code, f"{said}\n{logs}"
        assert left_behind(self.mark) == []
        return said


def new(folder: Path, framework: str, **answers: object) -> Project:
    answers = {"loggers": [], "hpo": "optuna", "framework": framework} | answers
    return Project(write(rendered(answers), folder), "my_project")  # type: ignore[arg-type]


def edit(project: Project, module: str, old: str, by: str) -> None:
    path = project.folder / "src/my_project" / f"{module}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, by))


def open_storage(url: str) -> BaseStorage:
    """As any user of Optuna would."""
    if url.startswith("redis"):
        warnings.simplefilter("ignore", ExperimentalWarning)
        return JournalStorage(JournalRedisBackend(url))
    if "://" in url:
        address = url.replace("postgresql:", "postgresql+psycopg:")  # whose tables the search makes
        return RDBStorage(address, skip_compatibility_check=True, skip_table_creation=True)
    return JournalStorage(JournalFileBackend(url, JournalFileOpenLock(url)))


def trials(url: str, study: str = "search") -> list[FrozenTrial]:
    return optuna.load_study(study_name=study, storage=open_storage(url)).trials


def running(url: str, study: str, at_least: int, search: Search, validations: int = 0) -> FrozenTrial:
    """A trial that a worker is at, not one of the first, and has trained for so long."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert search.process.poll() is None, search.end()
        try:
            for trial in trials(url, study):
                held = (
                    " " in trial.user_attrs.get("lease", "") and len(trial.intermediate_values) >= validations
                )
                if trial.number >= at_least and trial.state is TrialState.RUNNING and held:
                    return trial
        except (KeyError, OSError, SQLAlchemyError, StorageInternalError):
            pass  # there is no such study yet
        time.sleep(0.05)
    raise TimeoutError("no trial began")


def kill(worker: str) -> None:
    """End a worker as the kernel does that is out of memory."""
    variable = f"SEARCH_WORKER={worker}\0".encode()
    for folder in PROC.glob("[0-9]*"):
        try:
            found = variable in (folder / "environ").read_bytes() + b"\0"
        except OSError:
            continue
        if found:
            os.kill(int(folder.name), signal.SIGKILL)


def assert_each_ran_once(project: Project, study: str, url: str) -> None:
    """But for the trial that lost its worker."""
    found = trials(url, study)
    assert [trial.number for trial in found] == list(range(TRIALS))
    assert {trial.state for trial in found} == {TrialState.COMPLETE}
    losses = Counter(trial.user_attrs.get("losses", 0) for trial in found)
    assert set(losses) <= {0, 1}
    assert losses[1] <= 1
    for trial in found:
        rows = (project.folder / f"runs/{study}/trial-{trial.number:04}/metrics.csv").read_text()
        assert rows.count("val/accuracy") == 1


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("framework", "server"),
    [
        pytest.param("lightning", "redis", marks=pytest.mark.row(19, "lightning")),
        pytest.param("ignite", "postgresql", marks=pytest.mark.row(19, "ignite")),
        pytest.param("ignite", "redis", marks=ONLY_SOAK),
        pytest.param("lightning", "postgresql", marks=ONLY_SOAK),
    ],
)
def test_a_killed_worker_loses_no_trial(
    framework: str, server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, project = request.getfixturevalue(server), new(tmp_path, framework)
    flags = f"--max_steps 8 --study {framework} --trials {TRIALS} --workers {WORKERS} --lease 30"
    search = Search(project, *flags.split(), OPTUNA_STORAGE=url)  # which has a password
    lost = running(url, framework, 2, search)
    kill(lost.user_attrs["lease"].rpartition(" ")[0])
    search.end()
    assert_each_ran_once(project, framework, url)


OPEN = """
import multiprocessing, sys
from my_project.search.study import open_storage

url, begin = sys.argv[1], multiprocessing.Barrier(8)

def open_together():
    begin.wait()
    open_storage(url)

processes = [multiprocessing.get_context("fork").Process(target=open_together) for _ in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print([process.exitcode for process in processes])
"""


@pytest.mark.parametrize("server", ["postgresql", "sqlite"])
def test_searches_that_start_together_share_an_empty_database(
    server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """All of them create its tables, again and again on databases that are new."""
    project = new(tmp_path, "ignite")
    for number in range(times(4, 20)):
        url = f"sqlite:///{tmp_path}/{number}.db"
        if server == "postgresql":
            url = request.getfixturevalue(server)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE together{number}")
            url = f"{url.rpartition('/')[0]}/together{number}"
        assert project.run_fork("-c", OPEN, url).strip().endswith(str([0] * 8))


@pytest.mark.cold
@pytest.mark.parametrize("framework", ["ignite"])
def test_a_killed_machine_loses_no_trial_of_those_who_share_the_storage(
    framework: str, tmp_path: Path, redis: str
) -> None:
    """All that runs there is gone at once, so nobody is left to say so: its lease runs out."""
    project = new(tmp_path, framework)
    flags = f"--max_steps 8 --trials {TRIALS} --lease 5 --storage {redis}".split()
    first = Search(project, *flags, cold=True)
    running(redis, "search", 0, first)
    second = Search(project, *flags)
    running(redis, "search", 2, second)
    first.process.kill()
    first.end(code=-signal.SIGKILL)
    second.end()
    assert_each_ran_once(project, "search", redis)


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=ONLY_SOAK)])
@by_framework(18)
def test_a_trial_of_two_processes_is_one_trial_and_is_pruned_in_both(
    framework: str, strategy: str, tmp_path: Path
) -> None:
    project = new(tmp_path, framework, strategy=strategy)
    path = project.folder / "src/my_project/train.py"
    path.write_text(path.read_text().replace("\n\ndef main", f"{SPY}\n\ndef main"))
    flags = ["--processes", "2", "--trials", "8", "--epochs", "2", "--pruner", "median"]
    said = Search(project, *flags, "--objective.monitor", "loss").end()
    found = trials(str(tmp_path / FILE))
    assert len(found) == 8
    assert {trial.state for trial in found} == {TrialState.COMPLETE, TrialState.PRUNED}
    first, second = ((tmp_path / f"seen-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    assert first.count("\n") == 8
    assert first.count("TrialPruned") == sum(trial.state is TrialState.PRUNED for trial in found)
    complete = [trial for trial in found if trial.state is TrialState.COMPLETE]
    best = min(complete, key=lambda trial: trial.value or 0)  # a loss is to be low
    assert f"best val/loss {best.value:.4f} (trial {best.number})" in said
    halfway = {trial.number: next(iter(trial.intermediate_values.items())) for trial in found}
    assert {step for step, _ in halfway.values()} == {1297}  # all samples once
    early = [halfway[trial.number][1] for trial in found if trial not in complete]
    assert min(early) > halfway[best.number][1]


@pytest.mark.parametrize(
    ("framework", "strategy", "number", "code"),
    [
        ("ignite", "single", signal.SIGINT, 130),
        pytest.param("lightning", "single", signal.SIGTERM, 143, marks=ONLY_SOAK),
        pytest.param("ignite", "ddp", signal.SIGUSR1, 75, marks=ONLY_SOAK),
        pytest.param("lightning", "ddp", signal.SIGTERM, 143, marks=ONLY_SOAK),
    ],
)
def test_a_search_may_be_interrupted_again_and_again_and_goes_on_with_the_trial_it_was_at(
    framework: str, strategy: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """More often than a trial may lose its worker: a stop is no loss."""
    project, url = new(tmp_path, framework, strategy=strategy), str(tmp_path / FILE)
    flags = ["--trials", "3", "--epochs", "20", "--processes", "1" if strategy == "single" else "2"]
    for _ in range(4):
        search = Search(project, *flags)
        running(url, "search", 2, search, validations=1)
        search.process.send_signal(number)
        assert "continues" in search.end(code)
        [left] = [trial for trial in trials(url) if trial.state is TrialState.RUNNING]
        assert (left.number, left.user_attrs["lease"]) == (2, "")
    Search(project, *flags).end()
    ended = trials(url)
    assert [trial.state for trial in ended] == 3 * [TrialState.COMPLETE]
    assert not any("losses" in trial.user_attrs for trial in ended)


def test_a_trial_without_enough_memory_has_failed_and_the_others_are_grouped(tmp_path: Path) -> None:
    project = new(tmp_path, "lightning", loggers=["mlflow", "wandb"])
    edit(
        project, "task/search_space", "IntDistribution(8, 32, step=8)", "CategoricalDistribution((8, 10**6))"
    )
    edit(project, "task/search_space", "    IntDistribution,\n", "")
    said = Search(project, *["--trials", "4", "--sampler", "random", "--max_steps", "3"]).end()
    found = trials(str(tmp_path / FILE))
    for trial in found:
        fits = trial.params["model.width"] == 8
        assert trial.state is (TrialState.COMPLETE if fits else TrialState.FAIL)
        assert fits or "memory" in trial.user_attrs["reason"]
    assert {trial.state for trial in found} == {TrialState.COMPLETE, TrialState.FAIL}
    assert "memory" in said
    check_groups(tmp_path / "runs/search")


def check_groups(study: Path) -> None:
    from mlflow import MlflowClient  # takes seconds, which collecting tests does not need

    client = MlflowClient(f"sqlite:///{study / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    [parent] = [run for run in runs if run.info.run_name == "search"]
    children = {
        run.info.run_name for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert children
    assert children == {path.parent.name for path in study.glob("trial-*/mlflow-run-id.txt")}


@pytest.mark.cold
def test_help_and_a_misspelt_setting_load_neither_torch_nor_optuna(tmp_path: Path) -> None:
    project = new(tmp_path, "ignite")
    for flag, says in (("--help", "--trials"), ("--trails", "Did you mean --trials?")):
        done = project.start("-X", "importtime", "-m", "my_project.tune", flag)
        assert says in f"{done.stdout}{done.stderr}"
        loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert "jsonargparse" in loaded
        assert not loaded & {"torch", "optuna", "matplotlib", "pytorch_lightning", "ignite"}


@pytest.mark.parametrize("framework", FRAMEWORKS if SOAK else ["ignite"])
def test_the_tests_that_a_project_has_of_its_search_pass(framework: str, tmp_path: Path) -> None:
    assert " passed" in new(tmp_path, framework).run_fork("-m", "pytest", "-q", "tests/test_tune.py")
