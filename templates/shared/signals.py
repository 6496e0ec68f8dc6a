"""What ends a run before its goal, with its state saved: a signal, which its exit code tells, or an error."""

import signal
import threading
from typing import Any, Self

from . import optim, processes
from .config import LOG, Config, UserError
from .progress import Progress

# Exit codes; 75 asks a scheduler to start the run again, by a signal that Windows has not.
SIGNALS = {getattr(signal, "SIGUSR1", signal.SIGTERM): 75, signal.SIGTERM: 143, signal.SIGINT: 130}


class Stop:
    """Asked for by a signal to any process; all processes learn of it after the same step, and end there.

    They end as well when `guard` has skipped a step, at the next point of the curves.
    """

    guard: optim.Guard  # as soon as there is an optimizer

    def __init__(self, cfg: Config, progress: Progress) -> None:
        self.log_every, self.progress = cfg.log_every, progress
        self.code = 0  # of the signal that this process got
        self.handlers: dict[int, Any] = {}  # as they were
        self.agreement = processes.Agreement()  # on the exit code that all processes will end with, or 0

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind in (None, SystemExit):  # else another process may be gone
            self.agreement.close()
        if kind is SystemExit and processes.world_size() > 1:
            return  # torchrun sends SIGTERM to all others once one has ended; they end with their code too
        for number, handler in self.handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def listen(self) -> None:
        """Take the signals over. Only the main thread may; a run in another one leaves them alone."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.handlers.setdefault(number, signal.getsignal(number))
                signal.signal(number, self.note)

    def note(self, number: int, frame: object) -> None:
        self.code = SIGNALS[number]
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)  # a second Ctrl-C ends at once

    def due(self, step: int) -> bool:
        """Whether to save and end after this step; after an epoch's last, its validation comes first."""
        asked = self.agreement.reach(self.code) or (step % self.log_every == 0 and self.guard.failed_step())
        return bool(asked) and self.within_epoch()

    def within_epoch(self) -> bool:
        return self.progress.samples > 0 and self.progress.steps < self.progress.goal

    def salvages(self, error: BaseException) -> bool:
        """Whether an error leaves the state after the last step to be saved.

        After an epoch's last step it is saved without that. Of several processes others may be gone, without
        which a state is not whole.
        """
        foreseen = isinstance(error, UserError) or not isinstance(error, Exception)
        return not foreseen and processes.world_size() == 1 and self.within_epoch()

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


def ignore_signals(worker: int) -> None:
    """Let a loader process end with the process that it works for, which signals also reach."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
