"""Fixtures that several test modules use."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlscaffold import target
from mlscaffold.catalogue import Answer
from mlscaffold.render import render

pytest_plugins = ["tests.releases", "tests.projects"]

RenderProject = Callable[..., Path]


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
