"""What ends a run before its goal, with its state saved: a signal, which its exit code tells, or an error."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import Any, Self

from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _BaseDataLoaderIter

from ..distributed import processes
from ..errors import LOG, UserError

# Exit codes; 75 asks a scheduler to start the run again. Windows has neither of the first two signals.
HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # of a terminal that is closed
SIGNALS = {getattr(signal, "SIGUSR1", signal.SIGTERM): 75, HANGUP: 129, signal.SIGTERM: 143, signal.SIGINT: 130}
if signal.getsignal(HANGUP) is signal.SIG_IGN:  # as nohup wants it
    del SIGNALS[HANGUP]

PATIENCE_S = 5  # with a batch that does not come, once a signal has
NEXT_BATCH = _BaseDataLoaderIter.__next__.__code__

# Torch's handler would raise in the middle of a step when a loader process dies; a wait for its batch finds out too.
signal_handling._SIGCHLD_handler_set = True


class Stop:
    """Takes over the signals that end a run; all processes agree on them after the same step, and end there."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}  # as they were
        self.code, self.agreement = 0, processes.Agreement()  # exit code of the signal that this process got, or 0

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind in (None, SystemExit):  # else another process may be gone
            self.agreement.close()
        if self.code and sys.platform != "win32":
            signal.setitimer(signal.ITIMER_REAL, 0)
        if kind is SystemExit and processes.world_size() > 1:
            return  # torchrun sends SIGTERM to all others once one has ended; they end with their code too
        for number, handler in self.handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if self.code and isinstance(error, Exception) and not isinstance(error, UserError):
            LOG.warning("A signal ends this run: %s", error)
            raise SystemExit(self.code) from None

    def listen(self) -> Self:
        """Take the signals over. Only the main thread may; a run in another one leaves them alone."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.handlers.setdefault(number, signal.signal(number, self.note))
        return self

    __enter__ = listen

    def note(self, number: int, frame: object) -> None:
        self.code = SIGNALS[number]
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # a second Ctrl-C ends at once
        self.waits: list[Any] = []  # for a batch, which the last alarm came in
        if sys.platform != "win32":
            signal.signal(signal.SIGALRM, self.give_up)
            signal.setitimer(signal.ITIMER_REAL, 0.01, PATIENCE_S)

    def give_up(self, number: int, frame: FrameType | None) -> None:
        """End a wait for a batch in which two alarms in a row come; whatever else they find comes to its end."""
        loaders = [caller.f_locals["self"] for caller, _ in traceback.walk_stack(frame) if caller.f_code is NEXT_BATCH]
        before, self.waits = self.waits, [(loader, loader._num_yielded) for loader in loaders]
        if loaders and self.waits == before:
            end_loaders()
            raise TimeoutError("the next batch does not come")

    def asked(self, *, wait: bool = False) -> int:
        """The exit code that a signal to any process asks for, or 0. Each process has to ask as often.

        The answer is that of the question before, so that no step waits for the network; with `wait` it is this one's.
        """
        return self.agreement.reach(self.code, wait=wait)


def begin_loader(worker: int) -> None:
    """Let a loader process end with the process that it works for, and not by signals, which reach both."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: os._exit(parent.join() or 1), daemon=True).start()


@atexit.register
def end_loaders() -> None:
    """Kill the loader processes: Python sends them SIGTERM in the end, and would wait for ever."""
    for process in (child for child in multiprocessing.active_children() if child.daemon):
        process.kill()
