"""Which worker runs which trial, so that no trial is lost with its worker and none is run twice.

A worker writes its name and a count into the attribute `lease` of the trial that it runs, and counts on while
it runs it. A lease that has not changed for `--lease` seconds of the onlooker's own clock is void: clocks of
machines need not agree. Of several that want a void lease the last to write has it, as each looks again after
a moment (Fischer's algorithm). A trial has ended when the storage says so, which it accepts once.
"""

import threading
import time
from contextlib import suppress
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

SETTLE_S = 1.0  # in which all that want the same lease have written
MOST_STARTS = 3  # of a trial whose workers are lost each time; it may be what kills them


class Leases:
    """Takes trials of a study for a worker."""

    def __init__(self, storage: BaseStorage, study: str, owner: str, lease_s: float) -> None:
        self.storage, self.owner, self.lease_s = storage, owner, lease_s
        self.study = storage.get_study_id_from_name(study)
        self.seen: dict[int, tuple[Any, float]] = {}  # leases of others, and since when they are as they are
        self.ids: dict[int, int] = {}  # of trials, by their numbers

    def trials(self, count: int) -> list[FrozenTrial]:
        """The first so many; those after them belong to a larger search."""
        return self.storage.get_all_trials(self.study, deepcopy=False)[:count]

    def trial_id(self, number: int) -> int:
        if number not in self.ids:
            self.ids[number] = self.storage.get_trial_id_from_study_id_trial_number(self.study, number)
        return self.ids[number]

    def take(self, trials: list[FrozenTrial]) -> int | None:
        """The number of a trial that is now ours to run, or None if each has ended or is another's."""
        for trial in trials:
            with suppress(UpdateFinishedTrialError):  # it was another's, and has ended since we looked
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
        if not self._is_void(trial) or not self._win(trial):
            return False
        starts = trial.user_attrs.get("starts", 1)  # most trials have one, which is not written down
        if starts == MOST_STARTS:
            self.fail(number, f"its worker was lost {starts} times")
            return False
        self.storage.set_trial_user_attr(self.trial_id(number), "starts", starts + 1)
        return True

    def _is_void(self, trial: FrozenTrial) -> bool:
        lease, now = trial.user_attrs.get("lease"), time.monotonic()
        before, since = self.seen.setdefault(trial.number, (lease, now))
        if before != lease:
            self.seen[trial.number] = (lease, since := now)
        return lease == "" or now - since > self.lease_s

    def _win(self, trial: FrozenTrial) -> bool:
        now = self.storage.get_trial(self.trial_id(trial.number))  # what we looked at may be a while ago
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

    def release(self, number: int) -> None:
        """Give a trial back; whoever takes it next goes on where it stopped."""
        if self.holds(number):
            self.storage.set_trial_user_attr(self.trial_id(number), "lease", "")

    def fail(self, number: int, reason: str) -> None:
        """End a trial without a score, for good."""
        with suppress(RuntimeError):  # it has ended already
            self.storage.set_trial_user_attr(self.trial_id(number), "reason", reason)
            self.storage.set_trial_state_values(self.trial_id(number), TrialState.FAIL)


class Renewal(threading.Thread):
    """Renews a lease for as long as the trial runs."""

    def __init__(self, leases: Leases, number: int) -> None:
        super().__init__(daemon=True)
        self.leases, self.number, self.ended = leases, number, threading.Event()

    def run(self) -> None:
        count = 0
        while not self.ended.wait(self.leases.lease_s / 6):
            count += 1
            with suppress(Exception):  # the storage may be back for the next one
                if not self.leases.holds(self.number):
                    return  # this process stood still for too long, and another has the trial now
                self.leases.write(self.number, count)

    def __enter__(self) -> "Renewal":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.join()
