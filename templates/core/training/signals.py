"""How a run ends before its goal with its state saved: by a signal, which its exit code tells, or by an error."""

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

#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import LOG, UserError

# Exit codes; 75 asks a scheduler to start the run again. Windows has neither of the first two signals.
HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # of a terminal that is closed
SIGNALS = {getattr(signal, "SIGUSR1", signal.SIGTERM): 75, HANGUP: 129, signal.SIGTERM: 143, signal.SIGINT: 130}
if signal.getsignal(HANGUP) is signal.SIG_IGN:  # as nohup wants it
    del SIGNALS[HANGUP]

PATIENCE_S = 5  # after a signal: how long a batch may take to come
NEXT_BATCH = _BaseDataLoaderIter.__next__.__code__

# If a loader process dies, torch's own handler would raise in the middle of a step. Whoever waits for a batch of that
# process finds out as well.
signal_handling._SIGCHLD_handler_set = True


class Stop:
    """While it is open, a signal does not end the process: `code` becomes the exit code that it asks for.

    `State` looks at that after each step, saves, and raises `SystemExit`. A step whose next batch never comes would
    not end: an alarm goes off every `PATIENCE_S`, and the second one within the same wait raises `TimeoutError`.
    """

    def __init__(self) -> None:
        #: if strategy != "single"
        self.agreement = processes.Agreement()
        #: endif
        self.code = 0  # of the signal that came to this process
        self.handlers: dict[int, Any] = {}  # as they were

    #: if strategy != "single"
    def agree(self, *, wait: bool = False) -> int:
        """The code of any process, the same in all of them at the same step; each has to ask equally often.

        It is that of the question before, so that no step waits for the network; with `wait` it is this one's.
        """
        return self.agreement.reach(self.code, wait=wait)

    #: endif
    def listen(self) -> Self:
        """Take the signals over. Only the main thread may; a run in another one leaves them alone."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.handlers.setdefault(number, signal.signal(number, self.note))
        return self

    __enter__ = listen

    def note(self, number: int, frame: object) -> None:
        """Handle a signal."""
        self.code = SIGNALS[number]
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # a second Ctrl-C ends at once
        self.waits: list[Any] = []  # those for a batch in which the last alarm went off
        if sys.platform != "win32":
            signal.signal(signal.SIGALRM, self.alarm)
            signal.setitimer(signal.ITIMER_REAL, 0.01, PATIENCE_S)

    def alarm(self, number: int, frame: FrameType | None) -> None:
        """Give up if this and the last alarm went off in the same wait; all else may take as long as it needs."""
        loaders = [caller.f_locals["self"] for caller, _ in traceback.walk_stack(frame) if caller.f_code is NEXT_BATCH]
        before, self.waits = self.waits, [(loader, loader._num_yielded) for loader in loaders]
        if loaders and self.waits == before:
            end_loaders()
            raise TimeoutError("the next batch does not come")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Put the handlers back; an error after a signal is shown in a line, and the exit code stays the signal's."""
        #: if strategy != "single"
        if kind in (None, SystemExit):  # else another process may be gone
            self.agreement.close()
        #: endif
        if self.code and sys.platform != "win32":
            signal.setitimer(signal.ITIMER_REAL, 0)
        #: if strategy != "single"
        if kind is SystemExit and processes.world_size() > 1:
            return  # torchrun sends SIGTERM to all others once one has ended; they end with their code too
        #: endif
        for number, handler in self.handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if self.code and isinstance(error, Exception) and not isinstance(error, UserError):
            LOG.warning("A signal ends this run: %s", error)
            raise SystemExit(self.code) from None


def begin_loader(worker: int) -> None:
    """Let a loader process end with the process that it works for, and not by signals, which reach both."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: os._exit(parent.join() or 1), daemon=True).start()


@atexit.register
def end_loaders() -> None:
    """Kill the loader processes: Python would send them SIGTERM, which they ignore, and wait for ever."""
    for process in (child for child in multiprocessing.active_children() if child.daemon):
        process.kill()
