"""A process that stops answering is named, and all of them end, to be started again."""

import faulthandler
import json
import os
import socket
import sys
import threading
import time
import traceback
from itertools import count
from typing import Any, Self

import torch.distributed as dist
from torch.distributed import distributed_c10d

from ..errors import LOG

LOOK_S = 0.5  # between looks at the others
AGAIN = 75  # the exit code that asks for another start, as after SIGUSR1


class Watch:
    """While it is open, processes tell each other through the store how many exchanges they have begun.

    The first looks at all, and all look at the first. If nobody begins an exchange for `timeout` seconds, those are
    missing that have begun the fewest, or told nothing meanwhile; where all have begun as many, as in a long
    validation, nobody waits for another. An orderly end would wait for the missing one, too. So each process writes
    where it is, and leaves at once.
    """

    def __init__(self, timeout: int) -> None:
        self.timeout, self.rank, self.size = timeout, dist.get_rank(), dist.get_world_size()
        self.beats, self.about = count(), f"{socket.gethostname()}, process {os.getpid()}"
        self.told: dict[int, list[Any]] = {}  # by rank, what `say` says there
        self.missing = ""
        self.closed = threading.Event()
        # Two, as a call of the store may not return if the process that keeps the store is missing.
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.tell, self.look)]

    def __enter__(self) -> Self:
        if self.size > 1:  # told before anything can hang: who asks waits until there is something
            distributed_c10d._get_default_store().set(f"told/{self.rank}", json.dumps(self.say()))
            for thread in self.threads:
                thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closed.set()
        for thread in self.threads if self.size > 1 else []:
            thread.join(5)
        faulthandler.cancel_dump_traceback_later()

    def say(self) -> list[Any]:
        """A number that grows, exchanges that this process has begun, which one it is, and who is missing."""
        every: list[Any] = [*distributed_c10d._world.pg_map]  # whose numbers of exchanges torch's types do not know
        groups = [group for group in every if group.size() == self.size]
        return [next(self.beats), sum(g._get_sequence_number_for_group() for g in groups), self.about, self.missing]

    def tell(self) -> None:
        """Tell the others about this process, and ask about them."""
        store: Any = distributed_c10d._get_default_store()
        store = store.clone()  # others wait with theirs
        others = range(self.size) if self.rank == 0 else (0,)
        try:
            while not self.closed.wait(LOOK_S):
                store.set(f"told/{self.rank}", json.dumps(self.say()))
                found = store.multi_get([f"told/{other}" for other in others])
                self.told = dict(zip(others, map(json.loads, found), strict=True))
        except dist.DistError:
            return  # the store has ended

    def look(self) -> None:
        """Count for how long nobody has begun an exchange, and each has been silent."""
        idle, lead, silent, before, then = 0.0, 0, dict[int, float](), dict[int, list[Any]](), time.monotonic()
        while not self.closed.wait(LOOK_S):
            faulthandler.dump_traceback_later(self.timeout)  # which needs no Python, if that is what hangs
            passed, then = min(time.monotonic() - then, 2 * LOOK_S), time.monotonic()  # more if it was stopped itself
            told = self.told | {self.rank: self.say()}
            begun = [exchanges for _, exchanges, *_ in told.values()]
            idle, lead = (idle + passed, lead) if max(begun) == lead else (0.0, max(begun))
            silent = {r: silent.get(r, 0.0) + passed if told[r] == before.get(r) else 0.0 for r in told}
            if idle >= self.timeout:
                late = [r for r in told if told[r][1] == min(begun) < lead or silent[r] >= self.timeout]
                self.missing = ", ".join(f"{r} ({told[r][2]})" for r in late[:8])
            self.missing = self.missing or told.get(0, [""])[-1]
            if self.missing:
                self.end()
            before = told

    def end(self) -> None:
        """Say who is missing, and where this process is; leave once all know."""
        text = f"no answer from process {self.missing} for {self.timeout} s (--timeout). All end, to be started again"
        main = sys._current_frames()[threading.main_thread().ident or 0]
        LOG.error("%s. Process %d is here:\n%s", text, self.rank, "".join(traceback.format_stack(main)))
        time.sleep(6 * LOOK_S)
        os._exit(AGAIN)
