"""Fixtures that several test modules use."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlscaffold import target
from mlscaffold.catalogue import Answer
from mlscaffold.render import render

pytest_plugins = ["tests.support.releases", "tests.support.projects", "tests.support.servers"]

RenderProject = Callable[..., Path]
Say = Callable[[str], None]


@pytest.fixture(scope="session")
def repository() -> Path:
    """This repository."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def render_project() -> RenderProject:
    """Write the project for some answers, `render_project(path, framework="ignite")`, and return its path."""

    def write(path: Path, **answers: Answer) -> Path:
        target.write(render(answers), path)
        return path

    return write


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Add lines to the end of what pytest prints; what a worker process prints itself, nobody sees."""
    return lambda text: record_property("said", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    calls = (report for report in reports if getattr(report, "when", "") == "call")
    said = [value for report in calls for name, value in report.user_properties if name == "said"]
    if said:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join([*said, ""]))
