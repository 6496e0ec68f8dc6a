"""Where the time of tests goes. A plugin of pytest: at the end it says so by room, file, function and helper.

Seconds of a processor are those of pytest's own process, of the programs that it waited for, and of forks.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SHOWN = 15
HELPERS: dict[str, list[Any]] = {}  # by what was done: how often, and seconds

Row = tuple[str, int, float, float]  # what, how often, seconds of the clock, seconds of a processor


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Count what a helper does, and how long it takes."""
    begin = time.monotonic()
    try:
        yield
    finally:
        done = HELPERS.setdefault(name, [0, 0.0])
        done[0] += 1
        done[1] += time.monotonic() - begin


class Plugin:
    """Notes what each test takes, and shows the sums."""

    def __init__(self) -> None:
        self.tests: dict[str, list[float]] = {}
        self.helpers: dict[str, list[Any]] = {}
        self.begin = (0.0, 0.0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> None:
        if call.when == "teardown":
            took = time.monotonic() - self.begin[0], sum(os.times()[:4]) - self.begin[1]
            item.user_properties.append(("took", took))
            item.user_properties.append(("helpers", {name: list(done) for name, done in HELPERS.items()}))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        HELPERS.clear()
        self.begin = time.monotonic(), sum(os.times()[:4])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            told: dict[str, Any] = dict(report.user_properties)
            self.tests[report.nodeid] = list(told.get("took", (0.0, 0.0)))
            for name, (number, seconds) in told.get("helpers", {}).items():
                done = self.helpers.setdefault(name, [0, 0.0])
                done[0] += number
                done[1] += seconds

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if len(self.tests) < 2:
            return
        from tests.support import forks

        forked: defaultdict[str, float] = defaultdict(float)
        for label, (_, seconds) in forks.used().items():
            forked[label.rpartition(" (")[0]] += seconds
        rows = [(test, 1, took, used + forked[test]) for test, (took, used) in self.tests.items()]
        terminalreporter.section("where the time went: tests, seconds of the clock, of a processor")
        for shown in (
            sums(rows, lambda test: test.partition("/")[2].partition("/")[0]),
            sums(rows, lambda test: test.partition("::")[0])[:SHOWN],
            sums(rows, lambda test: test.partition("[")[0])[: 2 * SHOWN],
            sorted(rows, key=lambda row: -row[2])[:SHOWN],
        ):
            for what, number, took, used in shown:
                terminalreporter.write_line(f"{number:6} {took:8.1f} {used:8.1f}  {what}")
            terminalreporter.write_line("")
        for name, (number, seconds) in sorted(self.helpers.items(), key=lambda item: -item[1][1]):
            terminalreporter.write_line(f"{number:6.0f} {seconds:8.1f}           {name}")


def sums(rows: list[Row], part: Any) -> list[Row]:
    """Add up what has the same part of a name, the longest first."""
    found: dict[str, Row] = {}
    for test, number, took, used in rows:
        _, n, t, u = found.get(part(test), ("", 0, 0.0, 0.0))
        found[part(test)] = part(test), n + number, t + took, u + used
    return sorted(found.values(), key=lambda row: -row[2])
