"""A study: its storage, its sampler and pruner, and the settings that all of its trials share."""

import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalRedisBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from .. import addresses
from ..config import Config, Parser
from ..errors import UserError
from ..interface import Data
from ..seeding import seed_for
from ..task.objective import Objective
from ..task.search_space import SPACE
from .settings import Search

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, constant_liar=True),  # workers do not try values that are being tried
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
}
PRUNERS: dict[str, Callable[[int, int], BasePruner]] = {  # from the samples before the first and the last score
    "median": lambda first, last: MedianPruner(),
    "hyperband": lambda first, last: HyperbandPruner(min_resource=first, max_resource=last),
    "none": lambda first, last: NopPruner(),
}
EXTRAS = {"redis": "redis", "psycopg": "postgresql"}  # drivers, and the extras of this project with them
WAIT_S = {"sqlite": {"timeout": 60}, "postgresql": {"connect_timeout": 10}}  # for a lock, for the server
MOST_TABLES = 20  # that Optuna creates in a database
EXISTS = re.compile("UniqueViolation|DuplicateTable|IntegrityError|already exists")  # what databases say of a table
FREE = {"out_dir", "resume", "num_threads"}  # settings that may differ between the starts of a study
FIXED = {*FREE, "objective.monitor"}  # settings that no trial has for itself


def check_space() -> None:
    """Exit with one line if the table names an unknown setting, or holds values that its setting refuses."""
    parser = Parser(prog="task/search_space.py")
    parser.add_class_arguments(Config, as_group=False)
    for name, distribution in SPACE.items():
        if name in FIXED:
            raise UserError(f"task/search_space.py: {name} is the same for all trials. Take it out of the table.")
        match distribution:
            case CategoricalDistribution():
                values = list(distribution.choices)
            case FloatDistribution() | IntDistribution():
                values = [distribution.low, distribution.high]
        for value in values:
            parser.parse_args([f"--{name}={value}"])


def open_storage(url: str) -> BaseStorage:
    """A journal in a file or on Redis, or a database; all workers of a study open the same."""
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme in ("redis", "rediss"):
        warnings.filterwarnings("ignore", category=ExperimentalWarning)  # Optuna's name for this journal
        return JournalStorage(RedisJournal(url))
    if scheme:
        return open_database(url.replace("postgresql://", "postgresql+psycopg://", 1), scheme.partition("+")[0])
    path = Path(url).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(Journal(str(path)))


def open_database(url: str, scheme: str) -> RDBStorage:
    """A database. Optuna creates its tables, and fails where another process has just created the same one."""
    options, left = {"connect_args": WAIT_S.get(scheme, {}), "pool_pre_ping": True}, MOST_TABLES
    while True:
        try:
            return RDBStorage(url, engine_kwargs=options)
        except Exception as error:
            if not left or not EXISTS.search(str(error)):
                raise
            left -= 1


class RedisJournal(JournalRedisBackend):
    """Optuna's journal on Redis without snapshots: they are pickles, so whoever can write there could run code here."""

    def load_snapshot(self) -> None:
        """Do nothing: the whole journal, which is JSON, is read."""

    def save_snapshot(self, snapshot: bytes) -> None:
        """Do nothing."""


class Journal(JournalFileBackend):
    """Optuna's journal in a file, flushed to disk when a trial ends instead of at each write.

    Other processes see every write at once. If the machine crashes and the last lines are lost, their trial continues
    from its checkpoint.
    """

    def __init__(self, path: str) -> None:
        self.path, self.lock = Path(path), JournalFileOpenLock(path)
        super().__init__(path, self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if any("datetime_complete" in log for log in logs):
            return super().append_logs(logs)
        self.lock.acquire()
        try:
            with self.path.open("ab") as file:
                file.write("".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs).encode())
        finally:
            self.lock.release()


def create_study(cfg: Config, search: Search, data: Data, objective: Objective) -> BaseStorage:
    """Create the study, or continue it if all settings that make its trials comparable are the same."""
    score, way = f"val/{objective.monitor}", objective.directions[objective.monitor]
    now = comparable(cfg) | {"score": f"{score} ({way})", "training data": data.train.fingerprint}
    with storage_errors(search.storage):
        storage = open_storage(search.storage)
        direction = StudyDirection.MAXIMIZE if way == "max" else StudyDirection.MINIMIZE
        study = optuna.create_study(storage=storage, study_name=search.study, direction=direction, load_if_exists=True)
        before = study.user_attrs.get("settings")
        if before is None:
            study.set_user_attr("num_samples", len(data.train))
            study.set_user_attr("settings", now)
    if before and before != now:
        names = [name for name in before | now if before.get(name) != now.get(name)]
        changes = "; ".join(f"{name}: {before.get(name)} -> {now.get(name)}" for name in names)
        raise UserError(
            f"study={search.study}: it was started with other settings. Use another --study, or"
            f" restore these: {changes}"
        )
    waiting = create_trial(state=TrialState.WAITING)
    for _ in range(len(study.trials), search.trials):
        study.add_trial(waiting)
    return storage


def load_study(cfg: Config, search: Search, storage: BaseStorage, number: int = 0) -> optuna.Study:
    """The study as it is now; its proposal for a trial is f(seed, number, trials that have ended)."""
    study = optuna.load_study(study_name=search.study, storage=storage)
    study.sampler = SAMPLERS[search.sampler](seed_for(cfg.seed, number))
    study.pruner = PRUNERS[search.pruner](*resources(cfg, search, study.user_attrs["num_samples"]))
    return study


def resources(cfg: Config, search: Search, num_samples: int) -> tuple[int, int]:
    """The number of samples that a trial has trained on at its first validation, and at its end.

    Pruners compare trials at equal numbers of samples: that is the cost, whatever the batch size.
    """
    step = cfg.data.batch_size * cfg.optim.accumulate * search.processes
    last = min(cfg.epochs * num_samples, cfg.max_steps * step if cfg.max_steps > 0 else sys.maxsize)
    return min(cfg.validate_every * step or num_samples, last), last


def comparable(cfg: Config) -> dict[str, str]:
    """The settings that have to be equal for trials to be comparable: the space, and all settings outside it."""
    settings = {name: repr(value) for name, value in cfg.flat().items() if name not in FREE}
    return settings | {name: repr(distribution) for name, distribution in SPACE.items()}


def suggest(trial: optuna.Trial, cfg: Config) -> Config:
    """The settings of a trial: a value for each name in the table."""
    changes: dict[str, dict[str, Any]] = {}
    for name, distribution in SPACE.items():
        group, _, key = name.rpartition(".")
        change = changes.setdefault(group, {})
        match distribution:
            case FloatDistribution(low=low, high=high, log=log, step=step):
                change[key] = trial.suggest_float(name, low, high, log=log, step=step)
            case IntDistribution(low=low, high=high, log=log, step=step):
                change[key] = trial.suggest_int(name, low, high, log=log, step=step)
            case CategoricalDistribution(choices=choices):
                change[key] = trial.suggest_categorical(name, choices)
    own = changes.pop("", {})
    groups = {group: replace(getattr(cfg, group), **change) for group, change in changes.items()}
    return replace(cfg, **own, **groups)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn an error of a storage into one line that says what to do, without the secrets in its URL."""
    shown = addresses.show(url)
    try:
        yield
    except ImportError as error:
        name = getattr(error.__cause__ or error, "name", None) or "it"  # Optuna's own error has no name
        wanted = f"'.[{EXTRAS[name]}]'" if name in EXTRAS else name
        raise UserError(f"storage={shown}: its driver is missing. pip install {wanted}") from None
    except Exception as error:  # of Redis, SQLAlchemy, a driver or the file system
        reason = addresses.hide(" ".join(str(error).split("\n")[0].split()), url) or type(error).__name__
        raise UserError(
            f"storage={shown}: it cannot be used ({reason}). Give a file, sqlite:///FILE, rediss://HOST:PORT"
            " or postgresql://HOST/DATABASE, with a password in OPTUNA_STORAGE, and see that its server runs."
        ) from None
