"""A study: where it is kept, what its trials share, which of them wait, and who has one."""

import re
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna import pruners, samplers
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalRedisBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from .. import addresses
from ..config import Config, Parser
#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import UserError
from ..runs import folder
from ..seeding import seed_for
from ..task.search_space import SPACE
from .settings import Search, own_file

warnings.filterwarnings("ignore", category=ExperimentalWarning)  # Optuna's name for heartbeats and its journal on Redis
RETRIES = 2  # of a trial whose worker was lost: it may be what kills them
RETRY = RetryHeartbeatStaleTrialCallback(RETRIES, inherit_intermediate_values=True)  # makes a trial that goes on
EXTRAS = {"redis": "redis", "psycopg": "postgresql"}  # drivers, and the extras of this project with them
WAIT_S = {"sqlite": {"timeout": 60}, "postgresql": {"connect_timeout": 10}}  # for a lock, for the server
EXISTS = "UniqueViolation|DuplicateTable|IntegrityError|already exists"  # what databases say of a table
TPE = partial(samplers.TPESampler, constant_liar=True)  # workers do not try values that are being tried
SAMPLERS: dict[str, Any] = {"tpe": TPE, "random": samplers.RandomSampler, "gp": samplers.GPSampler}
#: if strategy == "single"
FREE = {"out_dir", "resume", "num_threads"}  # settings that may differ between the starts of a study
#: endif
#: if strategy != "single"
FREE = {"out_dir", "resume", "num_threads", "timeout"}  # settings that may differ between the starts of a study
#: endif
FIXED = {*FREE, "objective.monitor"}  # settings that no trial has for itself


class LeftError(BaseException):
    """This worker has no trial: none waits, or the one it had goes on elsewhere. Optuna takes it for no failure."""


class Queue(optuna.Study):
    """A study whose trials all exist from the beginning. `optimize` takes one that waits, and makes none.

    A worker holds the lock of a trial's run from before it takes the trial until it leaves it. If it is lost, its
    trial ends as failed, and another trial goes on in the same folder: by Optuna's heartbeats, or by `reclaim`.
    """

    def __init__(self, cfg: Config, search: Search, storage: BaseStorage) -> None:
        super().__init__(search.study, storage)
        self.cfg, self.search, self.storage = cfg, search, storage
        self.num_samples: int = self.user_attrs["num_samples"]
        first, last = resources(cfg, self.num_samples)
        known = {"median": pruners.MedianPruner(), "hyperband": pruners.HyperbandPruner(first, last)}
        self.pruner = known.get(search.pruner, pruners.NopPruner())
        self.beat = getattr(storage, "record_heartbeat", None)
        self.taken: tuple[FrozenTrial, Path, FileLock] | None = None  # with the folder of its run, and the lock there

    def last_attempts(self) -> list[FrozenTrial]:
        """The first `--trials` trials. Of one whose workers were lost, it is the trial that goes on with it."""
        last = {origin(trial): trial for trial in self.get_trials(deepcopy=False)}
        return [last[number] for number in sorted(last)[: self.search.trials]]

    def ask(self, fixed_distributions: dict[str, Any] | None = None) -> optuna.Trial:
        """Take a trial that waits. What is proposed is a function of the seed, its number and the trials that ended."""
        for trial in self.last_attempts():
            if trial.state is TrialState.WAITING and self._take(trial):
                self.sampler = SAMPLERS[self.search.sampler](seed=seed_for(self.cfg.seed, origin(trial)))
                return optuna.Trial(self, trial._trial_id)
        raise LeftError

    def _take(self, trial: FrozenTrial) -> bool:
        (run := self.run_of(trial)).mkdir(parents=True, exist_ok=True)
        self.taken = trial, run, folder.lock(run)
        with suppress(Timeout, UpdateFinishedTrialError):  # whoever has the lock was only thought to be lost
            self.taken[2].acquire(timeout=0)
            if self.beat:
                self.beat(trial._trial_id)  # before it runs: Optuna finds nobody lost who never had one
            if self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                return True
        self.leave()
        return False

    def leave(self, *, stopped: bool = False) -> None:
        """Let go of the trial that was taken, if any; if it was `stopped`, it waits again, to go on where it was."""
        if self.taken:
            trial, _, lock = self.taken
            with suppress(UpdateFinishedTrialError):
                if stopped and self.storage.get_trial(trial._trial_id).state is TrialState.RUNNING:
                    self.storage.set_trial_user_attr(trial._trial_id, "heard", ["", time.time()])
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            lock.release()
        self.taken = None

    def run_of(self, trial: FrozenTrial) -> Path:
        """The folder in which a trial trains."""
        return self.cfg.folder / f"trial-{origin(trial):04}"

    def lose(self, number: int) -> None:
        """Let another trial go on with one whose worker is gone, as Optuna does where it misses heartbeats."""
        trial = self.trials[number]
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            RETRY(self, trial)

    def reclaim(self) -> None:
        """Let trials go on whose worker is gone: nobody holds the run's lock, or it was silent for `--older_than`."""
        for trial in self.last_attempts():
            if trial.state is TrialState.RUNNING:
                host, heard = trial.user_attrs.get("heard", ("another machine", 0.0))
                silent, lost = time.time() - heard, False
                if host != socket.gethostname():
                    lost = 0 < self.search.older_than < silent
                else:
                    with suppress(Timeout), folder.lock(self.run_of(trial)):
                        if self.storage.get_trial(trial._trial_id).state.is_finished():
                            continue  # its worker was at work, and has ended it meanwhile
                        lost = True
                verdict = "waits again" if lost else "may be at work, so it is left alone"
                print(f"trial {origin(trial):4}  {verdict} (on {host}, heard of {silent:.0f} s ago)", flush=True)
                if lost:
                    self.lose(trial.number)
            elif trial.state is TrialState.FAIL and "reason" not in trial.user_attrs and losses(trial) < RETRIES:
                RETRY(self, self.trials[trial.number])  # who was about to do so was lost, too


def origin(trial: FrozenTrial) -> int:
    """The number by which a trial was known first, and which its folder bears."""
    return int(trial.system_attrs.get("failed_trial", trial.number))  # as Optuna's callback notes it


def losses(trial: FrozenTrial) -> int:
    """How many workers a trial had lost before this attempt."""
    return len(trial.system_attrs.get("retry_history", []))


def check_space() -> None:
    """Exit with one line if the table names an unknown setting, or holds values that its setting refuses."""
    parser = Parser(prog="task/search_space.py")
    parser.add_class_arguments(Config, as_group=False)
    space: dict[str, Any] = dict(SPACE)
    for name, distribution in space.items():
        if name in FIXED:
            raise UserError(f"task/search_space.py: {name} is the same for all trials. Take it out of the table.")
        for value in getattr(distribution, "choices", None) or (distribution.low, distribution.high):
            parser.parse_args([f"--{name}={value}"])


def suggest(trial: optuna.Trial, cfg: Config) -> Config:
    """The settings of a trial: a value for each name in the table."""
    for name, distribution in SPACE.items():
        group, _, key = name.rpartition(".")
        value = {key: trial._suggest(name, distribution)}
        cfg = replace(cfg, **({group: replace(getattr(cfg, group), **value)} if group else value))
    return cfg


def resources(cfg: Config, num_samples: int) -> tuple[int, int]:
    """The number of samples that a trial has trained on at its first validation, and at its end.

    Pruners compare trials at equal numbers of samples: that is the cost, whatever the batch size.
    """
    step = cfg.data.batch_size * cfg.optim.accumulate
    #: if strategy != "single"
    step *= processes.world_size()
    #: endif
    last = min(cfg.epochs * num_samples, cfg.max_steps * step if cfg.max_steps > 0 else sys.maxsize)
    return min(cfg.validate_every * step or num_samples, last), last


def open_study(cfg: Config, search: Search, way: str, num_samples: int, **shared: str) -> Queue:
    """Create the study, or continue it if settings, space and `shared`, which make its trials comparable, are equal."""
    now = {name: repr(value) for name, value in cfg.flat().items() if name not in FREE} | shared
    now |= {name: repr(distribution) for name, distribution in SPACE.items()}
    if search.storage == own_file(cfg.folder):
        cfg.folder.mkdir(parents=True, exist_ok=True)
    with storage_errors(search.storage):
        storage = open_storage(search.storage, search.heartbeat)
        direction = optuna.study.StudyDirection[way.upper()]
        made = optuna.create_study(storage=storage, study_name=search.study, direction=direction, load_if_exists=True)
        if not (before := made.user_attrs.get("settings", {})):
            made.set_user_attr("num_samples", num_samples)
            made.set_user_attr("settings", now)
    if changes := [name for name in before | now if before.get(name) != now.get(name)] if before else []:
        shown = "; ".join(f"{name}: {before.get(name)} -> {now.get(name)}" for name in changes)
        raise UserError(
            f"study={search.study}: it was started with other settings. Use another --study, or restore these: {shown}"
        )
    study = Queue(cfg, search, storage)
    while len(study.last_attempts()) < search.trials:  # another start may add some; what is too much is never taken
        study.add_trial(create_trial(state=TrialState.WAITING))
    return study


def open_storage(url: str, heartbeat: int = 30) -> BaseStorage:
    """A database, whose workers have heartbeats, or Optuna's journal in a file or on Redis."""
    scheme = url.partition("://")[0].partition("+")[0] if "://" in url else ""
    if scheme in ("redis", "rediss"):
        return JournalStorage(RedisJournal(url))
    if scheme:
        return get_storage(open_database(url.replace("postgresql://", "postgresql+psycopg://", 1), scheme, heartbeat))
    path = Path(url).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))


def open_database(url: str, scheme: str, heartbeat: int, tries: int = 20) -> RDBStorage:
    """A database. Optuna creates its tables, and fails where another process has just created the same one."""
    options = {"connect_args": WAIT_S.get(scheme, {}), "pool_pre_ping": True}
    try:
        return RDBStorage(url, options, heartbeat_interval=heartbeat, heartbeat_stale_trial_callback=RETRY)
    except Exception as error:
        if tries and re.search(EXISTS, str(error)):
            return open_database(url, scheme, heartbeat, tries - 1)
        raise


class RedisJournal(JournalRedisBackend):
    """Optuna's journal on Redis without snapshots: they are pickles, so whoever can write there could run code here."""

    def load_snapshot(self) -> None:
        """Do nothing: the whole journal, which is JSON, is read."""

    def save_snapshot(self, snapshot: bytes) -> None:
        """Do nothing."""


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn an error of a storage into one line that says what to do, without the secrets in its URL."""
    shown = addresses.show(url)
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        name = getattr(error.__cause__ or error, "name", None) or "it"  # Optuna's own error has no name
        wanted = f"'.[{EXTRAS[name]}]'" if name in EXTRAS else name
        raise UserError(f"storage={shown}: its driver is missing. pip install {wanted}") from None
    except Exception as error:  # of Redis, SQLAlchemy, a driver or the file system
        reason = addresses.hide(" ".join(str(error).split("\n")[0].split()), url) or type(error).__name__
        wanted = "Give a file, sqlite:///FILE, rediss://HOST:PORT or postgresql://HOST/DATABASE"
        more = "with a password in OPTUNA_STORAGE, and see that its server runs"
        raise UserError(f"storage={shown}: it cannot be used ({reason}). {wanted}, {more}.") from None
