import os
import sys
import time
from collections import Counter
from copy import deepcopy

import optuna
import pytest
import yaml
from optuna.distributions import (
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from my_project import study, train, tune
from my_project.config import Config, UserError
from my_project.leases import MOST_STARTS, Leases
from my_project.worker import Worker

FEW = ["--trials", "3", "--epochs", "2", "--log_every", "5", "--num_threads", "1", "--precision", "fp32"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a search, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "search"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tune", *FEW, "--out_dir", str(folder.with_name("default"))])
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        tune.main()
    return folder


@pytest.fixture
def storage(tmp_path):
    storage = study.open_storage(str(tmp_path / "journal.log"))
    optuna.create_study(storage=storage, study_name="search", direction="maximize")
    return storage


def leases(storage, owner, lease_s=60.0):
    return Leases(storage, "search", owner, lease_s)


def add_trials(storage, count):
    for _ in range(count):
        storage.create_new_trial(0, optuna.trial.create_trial(state=TrialState.WAITING))


def test_a_search_ends_each_of_its_trials(searched):
    trials = study.open_storage(str(searched / "journal.log")).get_all_trials(0)
    assert len(trials) == 3
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    for trial in trials:
        settings = yaml.safe_load((searched / f"trial-{trial.number:04}" / "config.yaml").read_text())
        assert settings["optim"]["lr"] == trial.params["optim.lr"]
        assert list(trial.intermediate_values) == [1, 2][: len(trial.intermediate_values)]


def test_the_best_settings_give_the_best_score_again(searched, command_line):
    best = max(
        trial.value
        for trial in study.open_storage(str(searched / "journal.log")).get_all_trials(0)
        if trial.state is TrialState.COMPLETE
    )
    command_line("--config", searched / "best.yaml")
    cfg, _ = study.parse("train")
    assert cfg.out_dir == searched / "best"
    assert train.run(cfg) == best


def test_a_search_draws_its_pictures(searched):
    for name in tune.PLOTS:
        assert (searched / f"{name}.png").stat().st_size > 1000


def test_a_search_that_is_complete_starts_no_worker(searched, command_line, capsys):
    (searched / "worker-0.log").unlink()
    command_line(*FEW, "--out_dir", searched.with_name("default"))
    tune.main()
    assert "best val/accuracy" in capsys.readouterr().out
    assert not (searched / "worker-0.log").exists()


def test_a_changed_space_is_refused_with_the_difference(searched, command_line, monkeypatch):
    monkeypatch.setitem(study.SPACE, "optim.lr", FloatDistribution(0.1, 0.2))
    command_line(*FEW, "--out_dir", searched.with_name("default"))
    with pytest.raises(SystemExit, match=r"^error: study=search: .*optim\.lr: Float.*0\.03.* -> Float.*0\.2"):
        tune.main()


@pytest.mark.parametrize(
    ("name", "distribution"),
    [("optim.lrr", FloatDistribution(0.1, 0.2)), ("epochs", FloatDistribution(0.5, 2.0))],
)
def test_a_space_that_does_not_fit_the_settings_is_refused(name, distribution, monkeypatch, capsys):
    monkeypatch.setitem(study.SPACE, name, distribution)
    with pytest.raises(SystemExit):
        study.check_space()
    assert name in capsys.readouterr().err


def test_a_trial_gets_a_value_for_each_name_of_the_space(monkeypatch):
    monkeypatch.setitem(study.SPACE, "epochs", IntDistribution(7, 7))
    cfg = study.suggest(optuna.create_study().ask(), Config())
    assert cfg.epochs == 7
    assert all(cfg.flat()[name] != Config().flat()[name] for name in ("optim.lr", "model.dropout"))


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


def test_a_trial_that_is_lost_again_and_again_has_failed(storage):
    add_trials(storage, 1)
    for _ in range(MOST_STARTS):
        worker = leases(storage, "a")
        assert worker.take(worker.trials(1)) == 0
        worker.release(0)
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
        study.read_command()
    assert "secret" not in str(error.value)


def test_no_trial_begins_after_the_timeout(tmp_path, command_line):
    command_line(*FEW, "--timeout", 0.001, "--out_dir", tmp_path / "default")
    cfg, search = study.read_command()
    storage = study.create_study(cfg, search)
    one = Worker(cfg, search)
    time.sleep(0.01)
    assert one.next() is None
    assert {trial.state for trial in storage.get_all_trials(0)} == {TrialState.WAITING}


def test_numbers_that_mean_nothing_are_refused(command_line):
    command_line("--trials", 0)
    with pytest.raises(UserError, match="trials=0: give 1 or more"):
        study.read_command()
