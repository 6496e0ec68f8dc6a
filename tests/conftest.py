"""Fixtures that several test modules use."""

import faulthandler
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import pytest

pytest.register_assert_rewrite("tests.support.projects", "tests.support.releases", "tests.support.services")

from mlscaffold.catalogue.questions import Answer  # noqa: E402
from mlscaffold.rendering import target  # noqa: E402 (what is rewritten must not be imported before)
from mlscaffold.rendering.render import render  # noqa: E402
from tests.support import durations, forks, proofs, scheduling  # noqa: E402

pytest_plugins = [
    "tests.support.releases",
    "tests.support.projects",
    "tests.support.servers",
    "tests.support.slurm",
]

RenderProject = Callable[..., Path]
Say = Callable[[str], None]

ROOMS = ["training", "launch", "search", "matrix", "serving", "support", "template", "tool"]
GRACE_S = 20  # from the timeout of a test until its process is ended
SOAK_S = 24 * 3600  # of a test, where `make soak` switches timeouts off


@pytest.fixture(scope="session")
def repository() -> Path:
    """This repository."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def render_project() -> RenderProject:
    """Write the project for some answers, `render_project(path, framework="ignite")`, and return its path."""
    proofs.note("tool")

    def write(path: Path, **answers: Answer) -> Path:
        target.write(render(answers), path)
        return path

    return write


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Add lines to the end of what pytest prints; what a worker process prints itself, nobody sees."""
    return lambda text: record_property("said", text)


def pytest_configure(config: pytest.Config) -> None:
    forks.share()
    proofs.begin(config)
    config.pluginmanager.register(durations.Plugin(), "durations")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Several processes share tests out by groups, however pytest is started: see `group_of`."""
    if config.getoption("numprocesses", None) and config.getoption("dist") == "no":
        config.option.dist, config.option.loadscopereorder = "loadgroup", False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: tests wait for some of their time, for programs, services and timeouts."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    if config.getoption("dist") != "loadgroup":
        return None
    return scheduling.Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long; tests that share what is made once run in one process of pytest-xdist."""
    items.sort(key=lambda item: (not item.get_closest_marker("long"), ROOMS.index(item.path.parent.name)))
    scheduling.tell({item.nodeid: group for item in items if (group := group_of(item))})


def group_of(item: pytest.Item) -> str:
    """The module, if its fixtures are made once for it, or the part of it that `APART` tells apart."""
    found = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    if all(each[-1].scope != "module" for each in found.values()):
        return ""
    module = item.getparent(pytest.Module)
    assert module
    values = getattr(getattr(item, "callspec", None), "params", {})
    apart = [str(values.get(name)) for name in getattr(module.obj, "APART", ())]
    return "-".join([module.name, *apart])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that no exception can end ends its process, with all stacks; pytest-xdist starts another one."""
    marker = item.get_closest_marker("timeout")
    given = item.config.getoption("timeout")
    chosen = marker.args[0] if marker else item.config.getini("timeout") if given is None else given
    seconds = float(chosen) or SOAK_S
    os.environ[forks.COLD] = "yes" if item.get_closest_marker("cold") else "no"
    faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True, file=stacks())
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        del os.environ[forks.COLD]


@cache
def stacks() -> TextIO:
    """Where the stacks of this process are written when a test hangs."""
    return (forks.share() / f"stacks-{os.getpid()}").open("w")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for path in forks.share().glob("stacks-*"):
        if found := path.read_text():
            terminalreporter.section("stacks of a test that hung")
            terminalreporter.write_line(found)
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    calls = (report for report in reports if getattr(report, "when", "") == "call")
    said = [value for report in calls for name, value in report.user_properties if name == "said"]
    if said:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join([*said, ""]))
