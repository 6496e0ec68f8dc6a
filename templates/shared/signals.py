"""A signal ends a run after the step it comes in: its state is saved, and its exit code tells the signal."""

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from .config import Config
from .optim import steps_per_epoch, total_steps
from .processes import Agreement

CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 75}  # 75 asks a scheduler to start the run again
LOG = logging.getLogger(__name__)
SIGNALS = {getattr(signal, name): code for name, code in CODES.items() if hasattr(signal, name)}


class Stop:
    """Asked for by a signal to any process; all processes learn of it after the same step, and end there."""

    def __init__(self, cfg: Config, num_batches: int) -> None:
        self.steps_per_epoch, self.goal = steps_per_epoch(cfg, num_batches), total_steps(cfg, num_batches)
        self.code = 0  # of the signal that this process got
        self.handlers: dict[int, Any] = {}  # as they were
        self.agreement = Agreement()  # on the exit code that all processes will end with, or 0

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind in (None, SystemExit):  # else another process may be gone
            self.agreement.close()
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
        asked = self.agreement.reach(self.code) != 0
        return asked and step % self.steps_per_epoch != 0 and step != self.goal

    def end(self) -> None:
        """End here if a signal asks for it; the state is saved."""
        reach = self.agreement.reach
        if code := reach(self.code) or reach(self.code):  # the second answers what was asked at the first
            LOG.warning("A signal ends this run. It goes on with --resume auto.")
            raise SystemExit(code)


def ignore_signals(worker: int) -> None:
    """Let a loader process end with the process that it works for, which signals also reach."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
