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

from . import optim, processes
from .config import LOG, Config, UserError
from .progress import Progress

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
    """Asked for by a signal to any process; all processes learn of it after the same step, and end there.

    They end as well when `guard` has skipped a step, at the next point of the curves.
    """

    guard: optim.Guard  # as soon as there is an optimizer

    def __init__(self, cfg: Config, progress: Progress) -> None:
        self.log_every, self.progress = cfg.log_every, progress
        self.handlers: dict[int, Any] = {}  # as they were
        # The exit code of the signal that this process got, and the agreement on that which all will end with, or 0.
        self.code, self.agreement = 0, processes.Agreement()

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

    def due(self, step: int) -> bool:
        """Whether to save and end after this step; after an epoch's last, its validation comes first."""
        asked = self.agreement.reach(self.code) or (step % self.log_every == 0 and self.guard.failed_step())
        return bool(asked) and self.within_epoch()

    def within_epoch(self) -> bool:
        return bool(self.progress.samples and self.progress.steps < self.progress.goal)

    def salvages(self, error: BaseException) -> bool:
        """Whether an error leaves the state after the last step to be saved.

        After an epoch's last step it is saved without that. Of several processes others may be gone, without
        which a state is not whole; nor is it in the middle of an update.
        """
        alone = processes.world_size() == 1 and isinstance(error, Exception) and not isinstance(error, UserError)
        return alone and self.within_epoch() and self.progress.steps + 1 not in self.guard.skipped

    def end(self) -> None:
        """End here if there is a reason to; the state is saved."""
        # The second answers what was asked at the first.
        code = self.agreement.reach(self.code) or self.agreement.reach(self.code)
        if step := self.guard.failed_step():
            hint = "--resume auto goes on behind it; if that happens again, lower --optim.lr or look for bad samples"
            raise UserError(f"step {step}: its gradient was not finite, so it was left out. {hint}.")
        if code:
            LOG.warning("A signal ends this run. It goes on with --resume auto.")
            raise SystemExit(code)


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
