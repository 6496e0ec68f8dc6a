"""The workers of a search on this machine: starts them, replaces those that crash, and ends them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from types import FrameType

import torch
from optuna.storages import BaseStorage

from ..config import Config
from ..errors import UserError
from ..training.signals import SIGNALS
from . import (
    #: if "mlflow" in loggers or "wandb" in loggers
    grouping,
    #: endif
    leases,
    worker,
)
from .settings import Search


class Supervisor:
    """Keeps `--workers` processes running as long as there are trials."""

    def __init__(self, cfg: Config, search: Search, storage: BaseStorage) -> None:
        self.cfg, self.search, self.storage = cfg, search, storage
        self.started, self.idle = Counter[int](), Counter[int]()  # by slot; idle: ended without a trial
        self.begin = time.monotonic()
        self.environment = dict(os.environ)
        #: if "mlflow" in loggers or "wandb" in loggers
        self.environment |= grouping.group_runs(cfg, search.folder)
        #: endif
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Supervisor":
        self.handlers = {number: signal.signal(number, end) for number in SIGNALS}
        trials = leases.Leases(self.storage, self.search.study, "", self.search.lease).trials(self.search.trials)
        todo = sum(not trial.state.is_finished() for trial in trials)
        for slot in range(min(self.search.workers, todo)):
            self.start(slot)
        return self

    def start(self, slot: int) -> None:
        """Start a worker with its share of CPU threads and GPUs; its output goes to `worker-<slot>.log`."""
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        launcher = [*launcher, str(self.search.processes)] if self.search.processes > 1 else []
        command = [sys.executable, *launcher, "-m", f"{__package__}.worker", *sys.argv[1:]]
        if not self.cfg.num_threads:
            share = torch.get_num_threads() // (self.search.workers * self.search.processes)
            command += ["--num_threads", str(max(1, share))]
        if self.search.timeout:
            left = self.search.timeout - (time.monotonic() - self.begin)
            command += ["--timeout", str(max(left, 0.001))]
        self.started[slot] += 1
        with (self.search.folder / f"worker-{slot}.log").open("ab") as log:
            self.running[slot] = subprocess.Popen(
                command,
                env=self.environment | {worker.NAME: self.name(slot)} | devices(slot, self.search.processes),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches this process alone
            )

    def name(self, slot: int) -> str:
        return f"{socket.gethostname()}-{os.getpid()}-{slot}.{self.started[slot]}"

    def look(self) -> bool:
        """Replace workers that have crashed; return whether any is running."""
        for slot, process in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[slot]
            process.communicate()  # closes its stdin: if the launcher has crashed, what it launched ends too
            if process.returncode:
                self.idle[slot] += not self.give_back(self.name(slot), lost=True)
                if self.idle[slot] == leases.MOST_LOSSES:
                    log = self.search.folder / f"worker-{slot}.log"
                    raise UserError(f"a worker ended {leases.MOST_LOSSES} times without a trial. {log} says why.")
                self.start(slot)
        return bool(self.running)

    def give_back(self, name: str, *, lost: bool) -> bool:
        """Free the trial that an ended worker was running; return whether it had ever begun one."""
        own = leases.Leases(self.storage, self.search.study, name, self.search.lease)
        begun = [trial for trial in own.trials(self.search.trials) if own.owns(trial)]
        for trial in begun:
            own.release(trial.number, lost=lost)
        return bool(begun)

    def __exit__(self, *error: object) -> None:
        """Stop running trials after their next step, with a checkpoint; they continue when the study does."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for slot, process in self.running.items():
            process.wait()
            process.communicate()  # closes its stdin only now: without it, a worker ends at once
            self.give_back(self.name(slot), lost=False)  # if the worker did not do so itself
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


def devices(slot: int, processes: int) -> dict[str, str]:
    """The environment variable with the GPUs of a worker, if there are any; workers share them if there are too few."""
    count = torch.cuda.device_count()
    if count == 0:
        return {}
    if processes > count:
        raise UserError(f"processes={processes}: this machine has {count} GPU(s), and each process needs one.")
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    chosen = [names.split(",")[(slot * processes + i) % count] for i in range(processes)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}


def end(number: int, frame: FrameType | None) -> None:
    """Exit with the code of the signal; the supervisor ends its workers on the way out."""
    print("stopping; the same command continues this study", file=sys.stderr)
    raise SystemExit(SIGNALS[number])
