"""A search keeps each of its trials, whatever happens to its workers, on real servers."""

import json
import os
import secrets
import signal
import subprocess
import time
import warnings
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

WORKERS, TRIALS = times(2, 4), times(6, 40)
SHORT = ["--log_every", "5", "--num_threads", "1", "--pruner", "none"]
ONLY_SOAK = pytest.mark.skipif(not SOAK, reason="make soak")
FILE = "runs/search/study.db"
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

    def __init__(
        self, project: Project, *arguments: str, cold: bool = False, processes: int = 1, **settings: str
    ) -> None:
        self.project, self.mark = project, secrets.token_hex(8)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        launcher = launcher if processes > 1 else []
        with proofs.apart():
            self.process = subprocess.Popen(
                [forks.python(cold=cold), *launcher, "-m", f"{project.package}.tune", *SHORT, *arguments],
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
        logs = "".join(path.read_text() for path in self.project.folder.glob("runs/*/trial-*/*.log"))
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


def database(folder: Path) -> str:
    """The storage of a study that is given none."""
    return f"sqlite:///{folder / FILE}"


def trials(url: str, study: str = "search") -> list[FrozenTrial]:
    return optuna.load_study(study_name=study, storage=open_storage(url)).trials


def running(url: str, study: str, at_least: int, *searches: Search, more_than: int = 0) -> FrozenTrial:
    """A trial that a worker is at, not one of the first, after so many validations."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for search in searches:
            assert search.process.poll() is None, search.end()
        try:
            for trial in trials(url, study):
                begun = trial.state is TrialState.RUNNING and len(trial.intermediate_values) > more_than
                if trial.number >= at_least and begun:
                    return trial
        except (KeyError, OSError, SQLAlchemyError, StorageInternalError):
            pass  # there is no such study yet
        time.sleep(0.02)
    raise TimeoutError("no trial began")


def first_known_as(trial: FrozenTrial) -> int:
    number: int = trial.system_attrs.get("failed_trial", trial.number)
    return number


def assert_each_ran_once(folder: Path, url: str, study: str, killed: int) -> None:
    """And the one that lost its worker went on where it was."""
    found = trials(url, study)
    last = {first_known_as(trial): trial for trial in found}
    assert sorted(last)[:TRIALS] == list(range(TRIALS))
    assert all(last[number].state is TrialState.COMPLETE for number in range(TRIALS))
    ended = [first_known_as(trial) for trial in found if trial.state is TrialState.COMPLETE]
    assert sorted(ended) == list(range(TRIALS))
    assert [first_known_as(trial) for trial in found if trial.state is TrialState.FAIL] == [killed]
    for number in range(TRIALS):
        run = folder / f"runs/{study}/trial-{number:04}"
        rows = (run / "metrics.csv").read_text()
        assert rows.count("val/accuracy") == 3, number
        assert ("after step" in (run / "output.log").read_text()) == (number == killed)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("framework", "server"),
    [
        pytest.param("lightning", "redis", marks=pytest.mark.row(19, "lightning")),
        pytest.param("ignite", "postgresql", marks=pytest.mark.row(19, "ignite")),
        pytest.param("ignite", "sqlite", marks=ONLY_SOAK),
        pytest.param("ignite", "journal", marks=ONLY_SOAK),
    ],
)
def test_the_trial_of_a_killed_worker_goes_on_where_it_was(
    framework: str, server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """By heartbeats in a database; elsewhere by `--reclaim`, which takes no trial of a worker that lives."""
    project, beats = new(tmp_path, framework), server in ("postgresql", "sqlite")
    local = {"sqlite": f"sqlite:///{tmp_path}/x.db", "journal": f"{tmp_path}/x"}
    url = local.get(server) or request.getfixturevalue(server)
    flags = f"--epochs 3 --study {framework} --trials {TRIALS} --heartbeat 4".split()
    searches = [Search(project, *flags, OPTUNA_STORAGE=url) for _ in range(WORKERS)]  # which has a password
    lost = running(url, framework, TRIALS // 4, *searches)
    run = tmp_path / f"runs/{framework}/trial-{lost.number:04}"
    os.kill(json.loads((run / "run.json").read_text())["process"], signal.SIGKILL)
    if not beats:
        time.sleep(0.5)  # its loaders end
        searches.append(Search(project, *flags, "--reclaim", OPTUNA_STORAGE=url))
    said = [search.process.communicate(timeout=900)[0] for search in searches]
    codes = [search.process.returncode for search in searches]
    assert sum(code != 0 for code in codes) == 1, said
    assert [left_behind(search.mark) for search in searches] == [[]] * len(searches)
    if not beats:
        assert f"trial {lost.number:4}  waits again" in said[-1]
        assert said[-1].count("waits again") == 1
    assert_each_ran_once(tmp_path, url, framework, lost.number)
    assert (tmp_path / f"runs/{framework}/best.yaml").exists()


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


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=ONLY_SOAK)])
@by_framework(18)
def test_a_trial_of_two_processes_is_one_trial_and_is_pruned_in_both(
    framework: str, strategy: str, tmp_path: Path
) -> None:
    project = new(tmp_path, framework, strategy=strategy)
    path = project.folder / "src/my_project/train.py"
    path.write_text(path.read_text().replace("\n\ndef main", f"{SPY}\n\ndef main"))
    flags = ["--trials", "8", "--epochs", "2", "--pruner", "median", "--objective.monitor", "loss"]
    said = Search(project, *flags, processes=2).end()
    found = trials(database(tmp_path))
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
    project, url = new(tmp_path, framework, strategy=strategy), database(tmp_path)
    flags, before = ["--trials", "1", "--epochs", "20"], 0
    processes = 1 if strategy == "single" else 2
    for _ in range(3):
        search = Search(project, *flags, processes=processes)
        running(url, "search", 0, search, more_than=before)
        search.process.send_signal(number)
        assert "continues" in search.end(code)
        [stopped] = trials(url)
        assert stopped.state is TrialState.WAITING
        before = len(stopped.intermediate_values)
    Search(project, *flags, processes=processes).end()
    assert [trial.state for trial in trials(url)] == [TrialState.COMPLETE]
    assert (tmp_path / "runs/search/trial-0000/output.log").read_text().count("after step") == 3


def test_a_trial_without_enough_memory_has_failed_and_the_others_are_grouped(tmp_path: Path) -> None:
    project = new(tmp_path, "lightning", loggers=["mlflow", "wandb"])
    edit(
        project, "task/search_space", "IntDistribution(8, 32, step=8)", "CategoricalDistribution((8, 10**6))"
    )
    edit(project, "task/search_space", "    IntDistribution,\n", "")
    flags = ["--trials", "4", "--sampler", "random", "--max_steps", "3", "--workers", "2"]
    said = Search(project, *flags).end()
    assert said.count("loading PyTorch") == 2
    assert said.count("best val/") == 1
    found = trials(database(tmp_path))
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
