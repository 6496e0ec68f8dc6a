"""The workers of a search on this machine: started, started again when they are lost, and ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from types import FrameType

import torch
from optuna.storages import BaseStorage

from ..config import Config
from ..errors import UserError
from ..training.signals import SIGNALS
from .grouping import group_runs
from .leases import MOST_STARTS, Leases
from .settings import Search
from .worker import NAME


class Supervisor:
    """Keeps `--workers` processes at work, for as long as there are trials."""

    def __init__(self, cfg: Config, search: Search, storage: BaseStorage) -> None:
        self.cfg, self.search, self.storage = cfg, search, storage
        self.started, self.idle = Counter[int](), Counter[int]()  # by slot; ends without a trial
        self.begin = time.monotonic()
        self.environment = os.environ | group_runs(replace(cfg, out_dir=search.folder))
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Supervisor":
        self.handlers = {number: signal.signal(number, end) for number in SIGNALS}
        trials = Leases(self.storage, self.search.study, "", self.search.lease).trials(self.search.trials)
        todo = sum(not trial.state.is_finished() for trial in trials)
        for slot in range(min(self.search.workers, todo)):
            self.start(slot)
        return self

    def start(self, slot: int) -> None:
        """Start a worker with its share of the machine; what it prints goes to `worker-0.log`."""
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
                env=self.environment | {NAME: self.name(slot)} | devices(slot, self.search.processes),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us alone
            )

    def name(self, slot: int) -> str:
        return f"{socket.gethostname()}-{os.getpid()}-{slot}.{self.started[slot]}"

    def look(self) -> bool:
        """Replace workers that were lost; whether any is at work."""
        for slot, worker in list(self.running.items()):
            if worker.poll() is None:
                continue
            del self.running[slot]
            worker.communicate()  # closes its stdin: if the launcher was lost, what it launched ends too
            if worker.returncode:
                self.idle[slot] += not self.give_back(self.name(slot))
                if self.idle[slot] == MOST_STARTS:
                    log = self.search.folder / f"worker-{slot}.log"
                    raise UserError(f"a worker ended {MOST_STARTS} times without a trial. {log} says why.")
                self.start(slot)
        return bool(self.running)

    def give_back(self, name: str) -> bool:
        """Free the trial that a lost worker was at; whether it had ever begun one."""
        lost = Leases(self.storage, self.search.study, name, self.search.lease)
        own = [t for t in lost.trials(self.search.trials) if lost.owns(t)]
        for trial in own:
            lost.release(trial.number)
        return bool(own)

    def __exit__(self, *error: object) -> None:
        """Let running trials end with the next step, saved; they continue when the study does."""
        for worker in self.running.values():
            worker.send_signal(signal.SIGTERM)
        for slot, worker in self.running.items():
            worker.wait()
            worker.communicate()  # closes its stdin, which would have ended it at once
            self.give_back(self.name(slot))  # what it did not give back itself
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


def devices(slot: int, processes: int) -> dict[str, str]:
    """The GPUs of a worker, where there are some; workers share them where they are too few."""
    count = torch.cuda.device_count()
    if count == 0:
        return {}
    if processes > count:
        raise UserError(f"processes={processes}: this machine has {count} GPU(s), and each process needs one.")
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    chosen = [names.split(",")[(slot * processes + i) % count] for i in range(processes)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}


def end(number: int, frame: FrameType | None) -> None:
    """End as a process that a signal ends; the supervisor sees to its workers on the way out."""
    print("stopping; the same command continues this study", file=sys.stderr)
    raise SystemExit(SIGNALS[number])
