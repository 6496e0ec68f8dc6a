"""A signal ends a run after the step it comes in: its state is saved, and its exit code tells the signal."""

import logging
import signal
import threading
from functools import cache
from types import FrameType, TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist

from .config import Config
from .optim import steps_per_epoch, total_steps

CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 75}  # 75 asks a scheduler to start the run again
LOG = logging.getLogger(__name__)
SIGNALS = {getattr(signal, name): code for name, code in CODES.items() if hasattr(signal, name)}


class Stop:
    """Asked for by a signal to any process; all processes learn of it after the same step, and end there."""

    def __init__(self, cfg: Config, num_batches: int) -> None:
        self.steps_per_epoch, self.goal = steps_per_epoch(cfg, num_batches), total_steps(cfg, num_batches)
        self.code = 0  # of the signal that this process got
        self.handlers: dict[int, Any] = {}  # as they were
        self.sent: tuple[torch.Tensor, dist.Work] | None = None

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.sent and kind in (None, SystemExit):  # else another process may be gone
            self.sent[1].wait()
        for number, handler in self.handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def listen(self) -> None:
        """Take the signals over. Only the main thread may; a run in another one leaves them alone."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.handlers.setdefault(number, signal.getsignal(number))
                signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        self.code = SIGNALS[number]
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # a second Ctrl-C ends at once

    def due(self, step: int) -> bool:
        """Whether to save and end after this step; after an epoch's last, its validation comes first."""
        return bool(self.agreed()) and step % self.steps_per_epoch != 0 and step != self.goal

    def agreed(self) -> int:
        """The exit code that all processes will end with, or 0. Each asks as often, and gets the same answer.

        It is what they told each other after the step before, over the network and beside the step, so that
        none waits for a device.
        """
        if not dist.is_initialized():
            return self.code
        code = 0
        if self.sent:
            self.sent[1].wait()
            code = int(self.sent[0])
        flag = torch.tensor(self.code)
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, _network(), async_op=True)
        self.sent = (flag, work)
        return code

    def end(self) -> None:
        """End here if a signal asks for it; the state is saved."""
        if code := self.agreed() or self.agreed():  # the second answer waits for what was asked just now
            LOG.warning("A signal ends this run. It goes on with --resume auto.")
            raise SystemExit(code)


def ignore_signals(worker: int) -> None:
    """Let a loader process end with the process that it works for, which signals also reach."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@cache
def _network() -> dist.ProcessGroup | None:
    """All processes, connected without their devices; None stands for the group that there is."""
    group: dist.ProcessGroup | None = None
    if dist.get_backend() == "nccl":
        group = dist.new_group(backend="gloo")
    return group
