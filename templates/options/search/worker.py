"""A worker of a search: it takes a trial, trains it and reports its score, until no trial is left.

#: if strategy == "single"
`tune` starts it.
#: endif
#: if strategy != "single"
`tune` starts it, through torchrun if a trial has several processes. Only the first of them uses the storage; all of
them follow its decisions.
#: endif
"""

import gc
import math
import os
import signal
import threading
import time
from dataclasses import replace

import optuna
import torch

from .. import train
from ..config import Config
#: if strategy != "single"
from ..distributed.processes import by_first, process_group, world_size
#: endif
from ..errors import LOG, UserError, plain_errors
from ..runs.folder import BusyError
from ..training.signals import SIGNALS
from .leases import Leases, Renewal
from .settings import Search, read_command
from .study import load_study, open_storage, resources, storage_errors, suggest

Task = tuple[int, Config]  # a trial's number and its settings

NAME = "SEARCH_WORKER"  # the environment variable with the name of a worker
POLL_S = 1.0  # between checks for a free trial


class StoppedError(Exception):
    """The search is being stopped, and its running trials with it."""


class Worker:
    """Runs trials. Every process of a worker has such an object."""

    def __init__(self, cfg: Config, search: Search) -> None:
        self.cfg, self.search = cfg, search
        with storage_errors(search.storage):
            self.storage = open_storage(search.storage)
        self.leases = Leases(self.storage, search.study, os.environ.get(NAME, "worker"), search.lease)
        self.deadline = time.monotonic() + (search.timeout or math.inf)
        self.stopping = False
        self.trial: optuna.Trial | None = None  # only in the first process
        self.last = 0  # number of samples at which the trial will end

    def work(self) -> None:
        """Run trials until none is left. Waits for trials of other workers, as they may be given back."""
        gc.freeze()  # what is imported stays: collecting it again would take longer than a small trial
        while (task := self.next()) is not None:
            if isinstance(task, tuple):
                self.run(*task)
                gc.collect()  # frees the model before the next one is built
            else:
                time.sleep(task)

    #: if strategy != "single"
    @by_first
    #: endif
    def next(self) -> Task | float | None:
        """A trial to run, seconds to wait, or None if all trials have ended."""
        todo = [trial for trial in self.leases.trials(self.search.trials) if not trial.state.is_finished()]
        if not todo or self.stopping or time.monotonic() > self.deadline:
            return None
        number = self.leases.take(todo)
        if number is None:
            return POLL_S
        study = load_study(self.cfg, self.search, self.storage, number)
        self.trial = optuna.Trial(study, self.leases.trial_id(number))
        out_dir = self.search.folder / f"trial-{number:04}"
        cfg = replace(suggest(self.trial, self.cfg), out_dir=out_dir, resume="auto")
        self.trial.set_user_attr("config", cfg.plain())
        self.last = resources(cfg, self.search, study.user_attrs["num_samples"])[1]
        return number, cfg

    def run(self, number: int, cfg: Config) -> None:
        """Train a trial and report how it ended."""
        try:
            if self.trial is None:
                train.run(cfg, self.report)
                return
            with Renewal(self.leases, number):
                score = train.run(cfg, self.report)
            self.tell(score, None)
        except optuna.TrialPruned:
            self.tell(None, optuna.trial.TrialState.PRUNED)
        except StoppedError:
            self.leases.release(number)
        except SystemExit:  # a signal came while it trained
            #: if strategy != "single"
            if world_size() > 1:
                raise  # `tune` gives the trial back
            #: endif
            self.leases.release(number)
            self.stopping = True
        except BusyError as error:  # a suspended worker holds the folder
            LOG.warning("trial %d: %s", number, error)
            #: if strategy != "single"
            if world_size() > 1:
                raise  # the other processes wait for this one
            #: endif
        except Exception as error:
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            self.leases.fail(number, f"{kind}{' '.join(str(error).split())}")
            #: if strategy != "single"
            if world_size() > 1:
                raise  # the other processes wait for this one
            #: endif
            if isinstance(error, torch.AcceleratorError):
                raise  # the device is lost: a new worker is needed

    #: if strategy != "single"
    @by_first
    #: endif
    def report(self, samples: int, score: float) -> None:
        """Report a score to the study; raise in all processes if the trial has to end here."""
        assert self.trial
        if self.stopping or not self.leases.holds(self.trial.number):
            raise StoppedError
        self.trial.report(score, samples)
        if samples < self.last and self.trial.should_prune():  # at its end, pruning saves nothing
            raise optuna.TrialPruned

    def tell(self, score: float | None, state: optuna.trial.TrialState | None) -> None:
        if self.trial:
            self.trial.study.tell(self.trial, score, state, skip_if_finished=True)

    def stop(self, *args: object) -> None:
        """Stop at the next validation."""
        self.stopping = True


def end_with_parent() -> None:
    """Exit as soon as `tune` is gone: it holds the other end of this process's stdin."""

    def wait() -> None:
        os.read(0, 1)  # not sys.stdin: its lock would be held while Python exits
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


#: if strategy != "single"
@process_group()
#: endif
def work() -> None:
    """Take part in the search until it ends."""
    cfg, search = read_command()
    worker = Worker(cfg, search)
    for number in SIGNALS:
        signal.signal(number, worker.stop)
    worker.work()


def main() -> None:
    end_with_parent()
    with plain_errors():
        work()


if __name__ == "__main__":
    main()
