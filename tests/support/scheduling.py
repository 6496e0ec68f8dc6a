"""How pytest-xdist shares tests out, but for what it does wrong.

It writes the group of a test into its name, which pytest 9.2 does not let it do, so processes say in a file
which groups there are. The process that takes the place of one that ended in a test gets tests only once it
knows which there are, so that two that end at the same moment end no run; it gets two, as it begins the first
when it knows of a second. No test that ended a process is run again, and nothing is shared out that has no
tests left.
"""

import json
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

from tests.support import forks

ENOUGH = 2  # tests that a process has to know of, so that it begins


def tell(groups: dict[str, str]) -> None:
    """Say which tests, by name, run in one process with all others of their group."""
    temporary = place().with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(groups))
    temporary.replace(place())


@cache
def told() -> dict[str, str]:
    found: dict[str, str] = json.loads(place().read_text())
    return found


def place() -> Path:
    return forks.share() / "groups.json"


class Scheduling(LoadGroupScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        return told().get(nodeid, nodeid)

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
