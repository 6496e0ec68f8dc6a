"""One worker of a search: it takes a trial, trains it and tells its score, until none is left.

`tune` starts it, through torchrun where a trial has several processes. The first of them speaks with the
storage; what it decides, all of them do.
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
from ..distributed.processes import first, process_group, world_size
from ..errors import LOG, UserError, plain_errors
from ..runs.folder import BusyError
from ..training.signals import SIGNALS
from .leases import Leases, Renewal
from .settings import Search, read_command
from .study import load_study, open_storage, resources, storage_errors, suggest

Task = tuple[int, Config]  # a trial's number and its settings

NAME = "SEARCH_WORKER"  # the environment variable with the name of a worker
POLL_S = 1.0  # between looks for a trial that has become free


class StoppedError(Exception):
    """The search is to end, and its running trials with it."""


class Worker:
    """Runs trials; every process of the worker has one."""

    def __init__(self, cfg: Config, search: Search) -> None:
        self.cfg, self.search = cfg, search
        with storage_errors(search.storage):
            self.storage = open_storage(search.storage)
        self.leases = Leases(self.storage, search.study, os.environ.get(NAME, "worker"), search.lease)
        self.deadline = time.monotonic() + (search.timeout or math.inf)
        self.stopping = False
        self.trial: optuna.Trial | None = None  # in the first process
        self.last = 0  # samples that the trial will have trained on in the end

    def work(self) -> None:
        """Run trials until none is left; a trial that is another's is waited for, as it may be given back."""
        gc.freeze()  # what is imported stays; without it collecting would take longer than a small trial
        while (task := first(self.next)) is not None:
            if isinstance(task, tuple):
                self.run(*task)
                gc.collect()  # the model of this trial, before the next one is built
            else:
                time.sleep(task)

    def next(self) -> Task | float | None:
        """A trial to run, seconds to wait, or None at the end."""
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
        """Train a trial to its end, whatever that is, and say so."""
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
            if world_size() > 1:
                raise  # `tune` gives the trial back
            self.leases.release(number)
            self.stopping = True
        except BusyError as error:  # a worker that stands still holds the folder; once our lease lapses, we try again
            LOG.warning("trial %d: %s", number, error)
            if world_size() > 1:
                raise  # the other processes wait for this one
        except Exception as error:
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            self.leases.fail(number, f"{kind}{' '.join(str(error).split())}")
            if world_size() > 1 or isinstance(error, torch.AcceleratorError):
                raise  # the other processes wait for this one, or the device is lost: begin anew

    def report(self, samples: int, score: float) -> None:
        """Tell the study a score; raise in all processes if the trial is to end here."""
        first(lambda: self.judge(samples, score))

    def judge(self, samples: int, score: float) -> None:
        assert self.trial
        if self.stopping or not self.leases.holds(self.trial.number):
            raise StoppedError
        self.trial.report(score, samples)
        if samples < self.last and self.trial.should_prune():  # at its end there is nothing to save
            raise optuna.TrialPruned

    def tell(self, score: float | None, state: optuna.trial.TrialState | None) -> None:
        if self.trial:
            self.trial.study.tell(self.trial, score, state, skip_if_finished=True)

    def stop(self, *args: object) -> None:
        """End with the next validation."""
        self.stopping = True


def end_with_parent() -> None:
    """End at once when `tune` is gone: it holds the other end of our stdin, and nobody else would stop us."""

    def wait() -> None:
        os.read(0, 1)  # not sys.stdin, whose lock would be held while Python ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    end_with_parent()
    with plain_errors(), process_group():
        cfg, search = read_command()
        worker = Worker(cfg, search)
        for number in SIGNALS:
            signal.signal(number, worker.stop)
        worker.work()


if __name__ == "__main__":
    main()
