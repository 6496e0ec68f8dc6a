"""How pytest-xdist shares tests out, but for what it does wrong when a process ends in the midst of a test.

The process that takes its place gets tests only once it knows which there are, so that two that end at the
same moment end no run; it gets two, as it begins the first when it knows of a second. No test that ended a
process is run again, and nothing is shared out that has no tests left.
"""

from contextlib import suppress

from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

ENOUGH = 2  # tests that a process has to know of, so that it begins


class Scheduling(LoadGroupScheduling):  # type: ignore[misc]
    def _reschedule(self, node: WorkerController) -> None:
        if node not in self.registered_collections:
            return
        super()._reschedule(node)
        if self.workqueue and self._pending_of(self.assigned_work[node]) < ENOUGH:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        with suppress(OSError):  # it has ended, and nobody has told us yet; then others get its tests
            super()._assign_work_unit(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Return the test that the process was at, if it ended in one; the others are for other processes."""
        units = self.assigned_work[node]
        left = [(unit, test) for unit in units.values() for test, done in unit.items() if not done]
        if left:
            unit, ended = left[0]
            unit[ended] = True
        for scope in [scope for scope, unit in units.items() if all(unit.values())]:
            del units[scope]
        super().remove_node(node)
        return ended if left else None
