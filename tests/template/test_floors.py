"""No project and no installation of ours may take a version of which docs/floors.md tells a hole."""

import re
import tomllib
from collections.abc import Iterator
from itertools import chain, product

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.projects import FRAMEWORKS, Rendered, rendered
from tests.support.releases import CONSTRAINTS, ROOT

ROW = re.compile(r"^\| ([\w-]+) \| ([\d.]+) \| (.+) \| (.+) \|$", re.MULTILINE)
FLOORS = {
    name: Version(floor) for name, floor, _, _ in ROW.findall((ROOT / "docs/floors.md").read_text("utf-8"))
}
# What nobody imports, and what brings it.
BROUGHT = {
    "onnx": {"onnxscript"},
    "protobuf": {"mlflow", "wandb", "tensorboard"},  # onnxscript parses no JSON with it
}


def bounds(lines: list[str]) -> Iterator[tuple[str, Version]]:
    """Names and lower bounds of requirements that have one."""
    for requirement in map(Requirement, lines):
        lowest = [Version(bound.version) for bound in requirement.specifier if bound.operator == ">="]
        yield from ((canonicalize_name(requirement.name), version) for version in lowest)


def lines_of(document: str) -> list[str]:
    project = tomllib.loads(document)["project"]
    return [*project["dependencies"], *chain(*project["optional-dependencies"].values())]


@pytest.fixture(scope="module")
def documents() -> dict[str, Rendered]:
    """The `pyproject.toml` of projects that together hold every requirement with all that brings it."""
    loggers = [[], ["tensorboard"], ["mlflow"], ["wandb"]]
    chosen = product(FRAMEWORKS, ("none", "export", "fastapi", "litserve"), loggers)
    projects = [
        rendered({"framework": framework, "serving": serving, "loggers": names, "hpo": "optuna"})
        for framework, serving, names in chosen
    ]
    return {project.files["pyproject.toml"]: project for project in projects}


def test_no_project_takes_a_version_with_a_known_hole(documents: dict[str, Rendered]) -> None:
    met = set()
    for document, project in documents.items():
        for name, lowest in bounds(lines_of(document)):
            if name in FLOORS:
                met.add(name)
                assert lowest >= FLOORS[name], f"{name} in {project}"
    assert met == set(FLOORS) - {"jinja2"}, "a floor that no project has"


def test_what_nobody_imports_has_its_floor_wherever_something_brings_it(
    documents: dict[str, Rendered],
) -> None:
    for document, project in documents.items():
        names = {name for name, _ in bounds(lines_of(document))}
        for name, by in BROUGHT.items():
            assert (name in names) == bool(by & names), f"{name} in {project}"


def test_neither_our_own_requirements_nor_the_tested_versions_are_below_a_floor() -> None:
    own = dict(bounds(lines_of((ROOT / "pyproject.toml").read_text("utf-8"))))
    assert own["jinja2"] >= FLOORS["jinja2"]
    pins = (line.split("==") for line in CONSTRAINTS.read_text("utf-8").split())
    tested = {canonicalize_name(name): Version(version) for name, version in pins}
    for name, floor in FLOORS.items():
        assert own.get(name, floor) >= floor
        assert tested[name] >= floor, name


def test_each_floor_says_what_it_closes_and_who_told() -> None:
    rows = ROW.findall((ROOT / "docs/floors.md").read_text("utf-8"))
    assert len(rows) > 10
    for name, _, closes, source in rows:
        assert re.search(r"(CVE|PYSEC)-\d{4}-\d+", closes), name
        assert re.search("https://|GHSA-", source), name


def test_a_lock_of_a_run_is_held_by_one_process_whatever_the_file_system(
    documents: dict[str, Rendered],
) -> None:
    """Before 3.24 filelock fails where there is no flock (480), before 3.29.5 two can hold a lock (577)."""
    for document, project in documents.items():
        assert dict(bounds(lines_of(document)))["filelock"] >= Version("3.29.5"), project
