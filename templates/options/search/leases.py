"""Which worker runs which trial, so that no trial is lost with its worker and none is run twice.

While a worker runs a trial, it keeps writing its name and a growing count into the trial's attribute `lease`. A
lease is free when it was given back (it is empty), or when it has not changed for `--lease` seconds on the clock of
the worker that looks, so clocks of machines need not agree. If several workers want a free lease, the last one to
write has it: each looks again after a moment (Fischer's algorithm). A trial has ended when the storage says so, and
the storage accepts one end only.
"""

import threading
import time
from contextlib import suppress
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

SETTLE_S = 1.0  # by then, all that want the same lease have written
MOST_LOSSES = 3  # workers that one trial may lose; it may be what kills them


class Leases:
    """Takes trials of a study for a worker."""

    def __init__(self, storage: BaseStorage, study: str, owner: str, lease_s: float) -> None:
        self.storage, self.owner, self.lease_s = storage, owner, lease_s
        self.study = storage.get_study_id_from_name(study)
        self.seen: dict[int, tuple[Any, float]] = {}  # leases by trial, and since when they have not changed
        self.ids: dict[int, int] = {}  # of trials, by their numbers

    def trials(self, count: int) -> list[FrozenTrial]:
        """The first `count` trials; further ones belong to a larger search."""
        return self.storage.get_all_trials(self.study, deepcopy=False)[:count]

    def trial_id(self, number: int) -> int:
        if number not in self.ids:
            self.ids[number] = self.storage.get_trial_id_from_study_id_trial_number(self.study, number)
        return self.ids[number]

    def take(self, trials: list[FrozenTrial]) -> int | None:
        """The number of a trial that is now ours to run, or None if all have ended or are being run."""
        for trial in trials:
            with suppress(UpdateFinishedTrialError):  # another worker has ended it since we looked
                if self._take(trial):
                    return trial.number
        return None

    def _take(self, trial: FrozenTrial) -> bool:
        number = trial.number
        if trial.state.is_finished():
            return False
        if trial.state is TrialState.WAITING:
            if not self.storage.set_trial_state_values(self.trial_id(number), TrialState.RUNNING):
                return False  # another was faster
            self.write(number, 0)
            return True
        expired = trial.user_attrs.get("lease") != ""
        if not self._is_free(trial) or not self._win(trial):
            return False
        if (losses := self.count_loss(number) if expired else losses_of(trial)) >= MOST_LOSSES:
            self.fail(number, f"its worker was lost {losses} times")
            return False
        return True

    def _is_free(self, trial: FrozenTrial) -> bool:
        lease, now = trial.user_attrs.get("lease"), time.monotonic()
        before, since = self.seen.setdefault(trial.number, (lease, now))
        if before != lease:
            self.seen[trial.number] = (lease, since := now)
        return lease == "" or now - since > self.lease_s

    def _win(self, trial: FrozenTrial) -> bool:
        now = self.storage.get_trial(self.trial_id(trial.number))  # it may have changed since we looked
        if now.state.is_finished() or now.user_attrs.get("lease") != trial.user_attrs.get("lease"):
            return False
        self.write(trial.number, 0)
        time.sleep(SETTLE_S)
        return self.holds(trial.number)

    def write(self, number: int, count: int) -> None:
        self.storage.set_trial_user_attr(self.trial_id(number), "lease", f"{self.owner} {count}")

    def holds(self, number: int) -> bool:
        trial = self.storage.get_trial(self.trial_id(number))
        return trial.state is TrialState.RUNNING and self.owns(trial)

    def owns(self, trial: FrozenTrial) -> bool:
        return str(trial.user_attrs.get("lease")).rpartition(" ")[0] == self.owner

    def release(self, number: int, *, lost: bool = False) -> None:
        """Give a trial back, for any worker to continue. That its worker was `lost` counts against the trial."""
        if self.holds(number):
            if lost:
                self.count_loss(number)
            self.storage.set_trial_user_attr(self.trial_id(number), "lease", "")

    def count_loss(self, number: int) -> int:
        """Note that the trial has lost a worker; return how many it has lost."""
        losses = losses_of(self.storage.get_trial(self.trial_id(number))) + 1
        self.storage.set_trial_user_attr(self.trial_id(number), "losses", losses)
        return losses

    def fail(self, number: int, reason: str) -> None:
        """End a trial without a score, for good."""
        with suppress(RuntimeError):  # it has ended already
            self.storage.set_trial_user_attr(self.trial_id(number), "reason", reason)
            self.storage.set_trial_state_values(self.trial_id(number), TrialState.FAIL)


def losses_of(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("losses", 0))


class Renewal(threading.Thread):
    """Renews a lease for as long as the trial runs."""

    def __init__(self, leases: Leases, number: int) -> None:
        super().__init__(daemon=True)
        self.leases, self.number, self.ended = leases, number, threading.Event()

    def run(self) -> None:
        count = 0
        while not self.ended.wait(self.leases.lease_s / 6):
            count += 1
            with suppress(Exception):  # the storage may be back next time
                if not self.leases.holds(self.number):
                    return  # this process was suspended for too long, and another has the trial now
                self.leases.write(self.number, count)

    def __enter__(self) -> "Renewal":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.join()
