"""The cold set: how a process ends by itself no fork can show, so some are started as a user does it."""

from pathlib import Path

from tests.support.projects import Project
from tests.training.test_processes import wrong_with

TIMES = 5


def wrong_end(folder: Path, package: str, number: int, processes: int) -> str:
    """Train once through `python -m` or `torchrun`; say what did not end as it should, or nothing."""
    return wrong_with(Project(folder, package), f"runs/{number}", processes)
