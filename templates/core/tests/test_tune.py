import os
import sys
import time
from collections import Counter
from copy import deepcopy
from pathlib import Path

import optuna
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
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
from my_project.search.leases import MOST_LOSSES, Leases
from my_project.search.worker import Worker
from my_project.task.objective import Objective
from my_project.task.settings import DataConfig

SMOKE = str(Path(__file__).parents[1] / "configs/smoke.yaml")
STEPS = ["--epochs", "16", "--max_steps", "16", "--validate_every", "8"]
FEW = ["--config", SMOKE, *STEPS, "--trials", "3", "--num_threads", "1", "--precision", "fp32"]


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
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        tune.main()
    return folder


@pytest.fixture
def storage(tmp_path):
    storage = study.open_storage(str(tmp_path / "journal.log"))
    optuna.create_study(storage=storage, study_name="search", direction="maximize")
    return storage


def trials_of(folder):
    return study.open_storage(str(folder / "journal.log")).get_all_trials(0)


def leases(storage, owner, lease_s=60.0):
    return Leases(storage, "search", owner, lease_s)


def add_trials(storage, count):
    for _ in range(count):
        storage.create_new_trial(0, optuna.trial.create_trial(state=TrialState.WAITING))


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


@pytest.mark.parametrize(("processes", "launcher"), [(1, "python"), (2, "torchrun --nproc-per-node 2")])
def test_its_last_line_starts_the_best_settings_as_its_trials_were(
    processes, launcher, searched, low, command_line, capsys
):
    command_line(*FEW, *low, "--processes", processes, "--out_dir", searched.with_name("default"))
    tune.main()
    said = capsys.readouterr().out
    assert f"next: {launcher} -m my_project.train --" in said


def test_a_search_draws_its_pictures(searched):
    for name in run.PLOTS:
        assert (searched / f"{name}.png").stat().st_size > 1000


def test_a_search_that_is_complete_starts_no_worker(searched, low, command_line, capsys):
    (searched / "worker-0.log").unlink()
    command_line(*FEW, *low, "--out_dir", searched.with_name("default"))
    tune.main()
    assert f"best val/{''.join(low[1:])}" in capsys.readouterr().out
    assert not (searched / "worker-0.log").exists()


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


def test_other_processes_and_optuna_itself_see_at_once_what_is_written(tmp_path, storage):
    add_trials(storage, 1)
    leases(storage, "a").take(leases(storage, "a").trials(1))
    backend = JournalFileBackend(str(tmp_path / "journal.log"))
    [trial] = JournalStorage(backend).get_all_trials(0)
    assert (trial.state, trial.user_attrs["lease"]) == (TrialState.RUNNING, "a 0")


def test_each_trial_is_taken_by_one_worker(storage):
    add_trials(storage, 4)
    workers = [leases(storage, name) for name in ("a", "b")]
    taken = [worker.take(worker.trials(4)) for worker in workers * 3]
    assert Counter(taken) == {0: 1, 1: 1, 2: 1, 3: 1, None: 2}


def test_a_trial_that_has_ended_since_one_looked_is_not_taken(storage):
    add_trials(storage, 2)
    first, second = leases(storage, "a"), leases(storage, "b")
    before = deepcopy(second.trials(2))
    first.take(first.trials(2))
    storage.set_trial_state_values(first.trial_id(0), TrialState.COMPLETE, [1.0])
    assert second.take(before) == 1


def test_a_trial_that_is_given_back_goes_on_with_another_worker(storage):
    add_trials(storage, 1)
    first, second = leases(storage, "a"), leases(storage, "b")
    assert first.take(first.trials(1)) == 0
    assert second.take(second.trials(1)) is None
    first.release(0)
    assert second.take(second.trials(1)) == 0
    assert not first.holds(0)


def test_the_trial_of_a_lost_worker_is_taken_when_its_lease_stays_as_it_is(storage):
    add_trials(storage, 1)
    first, second = leases(storage, "a"), leases(storage, "b", lease_s=0.2)
    first.take(first.trials(1))
    assert second.take(second.trials(1)) is None
    while (taken := second.take(second.trials(1))) is None:
        pass
    assert taken == 0


def test_a_worker_that_lost_its_trial_cannot_give_it_back(storage):
    add_trials(storage, 1)
    first, second, third = (leases(storage, name, lease_s=0.2) for name in ("a", "b", "c"))
    first.take(first.trials(1))  # and stands still
    while second.take(second.trials(1)) is None:
        pass
    first.release(0)
    assert second.holds(0)
    assert third.take(third.trials(1)) is None


def test_a_trial_that_is_stopped_again_and_again_goes_on(storage):
    add_trials(storage, 1)
    for _ in range(MOST_LOSSES + 2):
        worker = leases(storage, "a")
        assert worker.take(worker.trials(1)) == 0
        worker.release(0)
    assert storage.get_trial(0).state is TrialState.RUNNING


def test_a_trial_whose_leases_run_out_again_and_again_has_failed(storage):
    add_trials(storage, 1)
    first = leases(storage, "first")
    assert first.take(first.trials(1)) == 0
    for number in range(MOST_LOSSES):
        worker = leases(storage, f"next-{number}", lease_s=0.1)
        while storage.get_trial(0).state is TrialState.RUNNING and not worker.holds(0):
            worker.take(worker.trials(1))
    assert storage.get_trial(0).state is TrialState.FAIL


def test_a_trial_that_is_lost_again_and_again_has_failed(storage):
    add_trials(storage, 1)
    for _ in range(MOST_LOSSES):
        worker = leases(storage, "a")
        assert worker.take(worker.trials(1)) == 0
        worker.release(0, lost=True)
    assert worker.take(worker.trials(1)) is None
    trial = storage.get_trial(0)
    assert trial.state is TrialState.FAIL
    assert "lost" in trial.user_attrs["reason"]


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


def test_no_trial_begins_after_the_timeout(tmp_path, command_line):
    command_line(*FEW, "--timeout", 0.001, "--out_dir", tmp_path / "default")
    cfg, search = settings.read_command()
    search.folder.mkdir()
    optuna.create_study(storage=(storage := study.open_storage(search.storage)), study_name="search")
    add_trials(storage, 1)
    one = Worker(cfg, search)
    time.sleep(0.01)
    assert one.next() is None
    assert [trial.state for trial in storage.get_all_trials(0)] == [TrialState.WAITING]


def test_samples_are_what_pruners_count(command_line):
    command_line("--processes", 2)
    _, search = settings.read_command()
    assert study.resources(Config(epochs=3), search, 1000) == (1000, 3000)
    assert study.resources(Config(epochs=3, max_steps=1, data=DataConfig(batch_size=8)), search, 1000) == (16, 16)
    cfg = Config(epochs=3, validate_every=5, data=DataConfig(batch_size=8), optim=OptimConfig(accumulate=4))
    assert study.resources(cfg, search, 1000) == (5 * 2 * 8 * 4, 3000)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_bad_trials_are_pruned_but_never_at_their_end(pruner, direction, tmp_path, command_line):
    command_line("--epochs", 9, "--pruner", pruner, "--sampler", "random", "--out_dir", tmp_path / "default")
    cfg, search = settings.read_command()
    storage = study.open_storage(search.storage)
    optuna.create_study(storage=storage, study_name="search", direction=direction).set_user_attr("num_samples", 100)
    add_trials(storage, 20)
    worker, losses = Worker(cfg, search), [7 * number % 20 for number in range(20)]  # a trial with each from 0 to 19
    for loss in losses:
        worker.next()
        score = loss if direction == "minimize" else -loss
        try:
            for epoch in range(1, 10):
                worker.report(100 * epoch, score)
            worker.tell(score, None)
        except optuna.TrialPruned:
            worker.tell(None, TrialState.PRUNED)
    trials = storage.get_all_trials(0)
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert len(pruned) > 3
    assert all(100 <= trial.last_step < 900 for trial in pruned)
    assert trials[losses.index(0)].state is TrialState.COMPLETE
    complete = [losses[trial.number] for trial in trials if trial not in pruned]
    assert sum(complete) / len(complete) < sum(losses[trial.number] for trial in pruned) / len(pruned)


def test_numbers_that_mean_nothing_are_refused(command_line):
    command_line("--trials", 0)
    with pytest.raises(UserError, match="trials=0: give 1 or more"):
        settings.read_command()
