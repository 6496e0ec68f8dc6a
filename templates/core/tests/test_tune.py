import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import optuna
import pytest
from filelock import FileLock
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from my_project import train, tune
from my_project.config import (
    Config,
    OptimConfig,
    parse,
    read_settings,
)
from my_project.errors import UserError
from my_project.search import (
    run,
    settings,
    study,
)
from my_project.task.objective import Objective
from my_project.task.settings import DataConfig
from my_project.training.signals import SIGNALS

SMOKE = str(Path(__file__).parents[1] / "configs/smoke.yaml")
STEPS = ["--epochs", "16", "--max_steps", "16", "--validate_every", "8"]
FEW = ["--config", SMOKE, *STEPS, "--trials", "3", "--num_threads", "1", "--precision", "fp32"]


@pytest.fixture(scope="module", autouse=True)
def _handlers():
    """A search handles signals until its process ends."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def low(smoke, data):
    """What makes a search look for a low score, if the task has one."""
    directions = Objective(smoke.objective, data.about).directions
    return next((["--objective.monitor", name] for name, way in directions.items() if way == "min"), [])


@pytest.fixture(scope="module")
def searched(tmp_path_factory, low):
    """The folder of a search."""
    folder = tmp_path_factory.mktemp("runs") / "search"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tune", *FEW, *low, "--out_dir", str(folder.with_name("default"))])
        tune.main()
    return folder


@pytest.fixture
def queue(tmp_path, command_line):
    """A function that opens a study of 100 samples in a new folder, each time as another worker."""

    def open_queue(*flags):
        command_line(*flags, "--out_dir", tmp_path / "default")
        return study.open_study(*settings.read_command(), "maximize", 100)

    return open_queue


def trials_of(folder):
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db").trials


@contextmanager
def at_work(folder):
    """Hold the lock of a run, as another process does."""
    begun, done = Event(), Event()

    def hold():
        with FileLock(folder / ".lock"):
            begun.set()
            done.wait()

    (thread := Thread(target=hold)).start()
    begun.wait()
    yield
    done.set()
    thread.join()


def test_a_search_ends_each_of_its_trials(searched):
    trials = trials_of(searched)
    assert len(trials) == 3
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    for trial in trials:
        own = searched / f"trial-{trial.number:04}"
        found = read_settings(own).flat()
        assert {name: found[name] for name in trial.params} == trial.params
        rows = [line.split(",") for line in (own / "metrics.csv").read_text().splitlines()]
        scores = [float(value) for _, _, name, value in rows if name == f"val/{found['objective.monitor']}"]
        assert list(trial.intermediate_values.values()) == pytest.approx(scores, rel=1e-5)
        assert list(trial.intermediate_values) == sorted(trial.intermediate_values)


def test_the_best_settings_give_the_best_score_again(searched, low, command_line):
    scores = [trial.value for trial in trials_of(searched) if trial.state is TrialState.COMPLETE]
    best = min(scores) if low else max(scores)
    command_line("--config", searched / "best.yaml")
    cfg, _ = parse("train")
    assert cfg.out_dir == searched / "best"
    assert train.run(cfg) == best


def test_a_search_that_is_complete_trains_nothing_and_says_what_comes_next(searched, low, command_line, capsys):
    before = len(trials_of(searched))
    command_line(*FEW, *low, "--out_dir", searched.with_name("default"))
    tune.main()
    said = capsys.readouterr().out
    assert "next: python -m my_project.train --" in said
    assert "trains" not in said
    assert len(trials_of(searched)) == before


def test_a_search_draws_its_pictures(searched):
    for name in run.PLOTS:
        assert (searched / f"{name}.png").stat().st_size > 1000


def test_a_changed_space_is_refused_with_the_difference(searched, low, command_line, monkeypatch):
    monkeypatch.setitem(study.SPACE, "optim.lr", FloatDistribution(0.1, 0.2))
    command_line(*FEW, *low, "--out_dir", searched.with_name("default"))
    with pytest.raises(SystemExit, match=r"^error: study=search: .*optim\.lr: .* -> Float.*0\.2"):
        tune.main()


def test_another_score_is_refused_with_the_difference(searched, low, objective, command_line):
    others = [name for name in objective.directions if name not in low]
    if not low or not others:
        pytest.skip("this task has no other score")
    command_line(*FEW, "--objective.monitor", others[0], "--out_dir", searched.with_name("default"))
    with pytest.raises(SystemExit, match=rf"^error: study=search: .*score: val/{low[1]} .* -> val/{others[0]} "):
        tune.main()


def test_a_score_that_the_task_has_not_is_named_before_anything_is_written(tmp_path, command_line):
    command_line(*FEW, "--objective.monitor", "nonsense", "--out_dir", tmp_path / "default")
    with pytest.raises(SystemExit, match=r"^error: objective.monitor=nonsense: Objective.directions has "):
        tune.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "distribution"),
    [("optim.lrr", FloatDistribution(0.1, 0.2)), ("epochs", FloatDistribution(0.5, 2.0))],
)
def test_a_space_that_does_not_fit_the_settings_is_refused(name, distribution, monkeypatch, capsys):
    monkeypatch.setitem(study.SPACE, name, distribution)
    with pytest.raises(SystemExit):
        study.check_space()
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("name", ["objective.monitor", "out_dir"])
def test_a_space_that_varies_what_all_trials_share_is_refused(name, monkeypatch):
    monkeypatch.setitem(study.SPACE, name, CategoricalDistribution(("a", "b")))
    with pytest.raises(UserError, match=f"{name} is the same for all trials"):
        study.check_space()


def test_a_trial_gets_a_value_for_each_name_of_the_space(monkeypatch):
    monkeypatch.setitem(study.SPACE, "epochs", IntDistribution(7, 7))
    trial = optuna.create_study().ask()
    cfg = study.suggest(trial, Config())
    assert cfg.epochs == 7
    assert set(trial.params) == set(study.SPACE)
    assert {name: cfg.flat()[name] for name in trial.params} == trial.params


def test_each_trial_is_taken_by_one_worker(queue):
    workers, taken = [queue("--trials", 4), queue("--trials", 4)] * 2, []
    for worker in workers:
        taken.append(worker.ask().number)
        worker.leave()
    assert sorted(taken) == [0, 1, 2, 3]
    with pytest.raises(study.LeftError):
        workers[0].ask()
    assert len(workers[0].trials) == 4


def test_workers_that_start_together_run_the_trials_that_were_asked_for(queue):
    first, second = queue("--trials", 2), queue("--trials", 2)
    second.add_trial(optuna.trial.create_trial(state=TrialState.WAITING))  # as if both had found none
    for worker in (first, second):
        worker.ask()
        worker.leave()
    with pytest.raises(study.LeftError):
        first.ask()


def test_a_trial_that_is_stopped_again_and_again_waits_for_the_next_worker(queue):
    for _ in range(study.RETRIES + 2):
        worker = queue("--trials", 1)
        assert worker.ask().number == 0
        worker.leave(stopped=True)
    assert [trial.state for trial in worker.trials] == [TrialState.WAITING]


def test_another_trial_goes_on_with_one_whose_worker_is_lost_until_that_happens_too_often(queue):
    lost = []
    for _ in range(study.RETRIES + 1):
        worker = queue("--trials", 1)
        lost.append(trial := worker.ask())
        trial.suggest_float("optim.lr", 0.0, 1.0)
        trial.report(0.5, len(lost))
        folder = worker.taken[1]
        worker.leave()
        worker.lose(trial.number)
        with pytest.raises(UpdateFinishedTrialError):  # so that one that was only thought to be lost lets go
            trial.set_user_attr("heard", ["here", 0.0])
    assert len({trial.params["optim.lr"] for trial in lost}) == 1
    assert folder.name == "trial-0000"
    [last] = worker.last_attempts()
    assert set(last.intermediate_values) == {1, 2, 3}
    assert run.describe(last, "score") == "trial    0  fail  its worker was lost 3 times"
    with pytest.raises(study.LeftError):
        worker.ask()


def test_a_trial_whose_run_is_at_work_is_neither_taken_nor_reclaimed(queue, capsys):
    worker, other = queue("--trials", 2), run.Worker()
    folder = worker.run_of(worker.trials[0])
    folder.mkdir()
    with at_work(folder):
        assert worker.ask().number == 1
        worker.leave()
    other.study, other.trial = worker, worker.ask()
    other.hear()
    worker.leave()  # and is killed
    with at_work(folder):
        worker.reclaim()
    assert "trial    0  may be at work" in capsys.readouterr().out
    worker.reclaim()
    assert "trial    0  waits again" in capsys.readouterr().out
    assert [trial.state for trial in worker.last_attempts()] == [TrialState.WAITING, TrialState.RUNNING]


@pytest.mark.parametrize(("silent_s", "state"), [(5, TrialState.RUNNING), (50, TrialState.WAITING)])
def test_a_trial_of_another_machine_is_reclaimed_when_it_was_silent_for_long(silent_s, state, queue):
    worker = queue("--trials", 1, "--reclaim", "--older_than", 20)
    assert worker.search.reclaim
    worker.ask().set_user_attr("heard", ["elsewhere", time.time() - silent_s])
    worker.leave()
    worker.reclaim()
    assert [trial.state for trial in worker.last_attempts()] == [state]


def test_a_study_of_an_earlier_release_is_named_with_what_goes_on_with_it(tmp_path, command_line):
    (tmp_path / "search").mkdir()
    (tmp_path / "search/journal.log").touch()
    command_line("--out_dir", tmp_path / "default")
    with pytest.raises(UserError, match=r"before 0\.9 .* --storage \S+journal\.log --reclaim --older_than 1 goes on"):
        settings.read_command()


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://127.0.0.1:9", "see that its server runs|pip install"),
        ("postgresql://me:secret@127.0.0.1:9/x", "see that its server runs|pip install"),
        ("sqlite:////no/such/folder/x.db", "Give a file"),
        ("nonsense://me:secret@host/x", "Give a file"),
        ("redis://me:sec/ret@127.0.0.1:9", "see that its server runs|pip install|Give a file"),
        ("redis://127.0.0.1:9?password=secret", "see that its server runs|pip install|Give a file"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_with_the_remedy(url, remedy, tmp_path, command_line, monkeypatch):
    monkeypatch.setenv("OPTUNA_STORAGE", url)
    command_line(*FEW, "--out_dir", tmp_path / "default")
    with pytest.raises(SystemExit, match=rf"^error: storage=.*({remedy})") as end:
        tune.main()
    assert "secret" not in str(end.value)
    assert "ret@" not in str(end.value)
    assert not list(tmp_path.iterdir())


def test_a_driver_that_is_missing_is_named_with_what_installs_it(tmp_path, command_line, monkeypatch):
    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name == "psycopg":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.delitem(sys.modules, "psycopg", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://me:secret@127.0.0.1:9/x")
    command_line(*FEW, "--out_dir", tmp_path / "default")
    with pytest.raises(SystemExit, match=r"driver is missing. pip install '.\[postgresql\]'") as end:
        tune.main()
    assert "secret" not in str(end.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["rediss://:secret@host", "postgresql://host/x?user=me&password=secret"])
def test_a_password_on_the_command_line_is_refused(url, command_line):
    command_line("--storage", url)
    with pytest.raises(UserError, match="OPTUNA_STORAGE") as error:
        settings.read_command()
    assert "secret" not in str(error.value)


def test_samples_are_what_pruners_count():
    assert study.resources(Config(epochs=3), 1000) == (1000, 3000)
    assert study.resources(Config(epochs=3, max_steps=1, data=DataConfig(batch_size=8)), 1000) == (8, 8)
    cfg = Config(epochs=3, validate_every=5, data=DataConfig(batch_size=8), optim=OptimConfig(accumulate=4))
    assert study.resources(cfg, 1000) == (5 * 8 * 4, 3000)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_bad_trials_are_pruned_but_never_at_their_end(pruner, direction, tmp_path, command_line):
    flags = ["--epochs", 9, "--pruner", pruner, "--sampler", "random", "--storage", tmp_path / "journal.log"]
    command_line(*flags, "--out_dir", tmp_path / "default")
    worker, losses = run.Worker(), [7 * number % 20 for number in range(20)]  # a trial with each from 0 to 19
    worker.study, worker.last = study.open_study(*settings.read_command(), direction, 100), 900

    def attempt(trial):
        worker.trial, loss = trial, losses[trial.number]
        score = loss if direction == "minimize" else -loss
        for epoch in range(1, 10):
            worker.report(100 * epoch, score)
        return score

    worker.study.optimize(attempt, 20, callbacks=[lambda *ended: worker.study.leave()])
    trials = worker.study.trials
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert len(pruned) > 3
    assert all(100 <= trial.last_step < 900 for trial in pruned)
    assert trials[losses.index(0)].state is TrialState.COMPLETE
    complete = [losses[trial.number] for trial in trials if trial not in pruned]
    assert sum(complete) / len(complete) < sum(losses[trial.number] for trial in pruned) / len(pruned)


@pytest.mark.parametrize("flag", ["--trials", "--heartbeat"])
def test_numbers_that_mean_nothing_are_refused(flag, command_line, capsys):
    command_line(flag, 0)
    with pytest.raises(SystemExit):
        settings.read_command()
    assert "greater than" in capsys.readouterr().err
