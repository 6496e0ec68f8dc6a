"""A project installs into a fresh environment, and there its tests, checks and wheel work."""

import os
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.command import mlscaffold
from tests.projects import FRAMEWORKS, PARALLEL, rendered
from tests.releases import CONSTRAINTS, clean_settings, git, run

pytestmark = pytest.mark.timeout(1800)  # a fresh environment is fetched and unpacked


@dataclass(frozen=True)
class Installed:
    """A project and the environment that it is installed in."""

    folder: Path
    environment: Path

    def run(self, *command: str | Path) -> str:
        """Run a command in the project's folder, in its environment; return what it prints."""
        scripts = self.environment / ("Scripts" if os.name == "nt" else "bin")
        settings = clean_settings() | {
            "VIRTUAL_ENV": str(self.environment),
            "PIP_CONSTRAINT": str(CONSTRAINTS),
            "PIP_BUILD_CONSTRAINT": str(CONSTRAINTS),
            "PRE_COMMIT_HOME": str(self.environment / "pre-commit"),
        }
        settings["PATH"] = f"{scripts}{os.pathsep}{settings['PATH']}"
        return run(*command, cwd=self.folder, settings=settings)


def declared(framework: str) -> set[str]:
    """The distributions that a project of a framework names itself."""
    metadata = tomllib.loads(rendered({"framework": framework}).files["pyproject.toml"])["project"]
    lines = [*metadata["dependencies"], *metadata["optional-dependencies"]["dev"]]
    return {Requirement(line).name for line in lines}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with torch, which takes longer to install than all the rest."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    [torch] = [line for line in CONSTRAINTS.read_text("utf-8").split() if line.startswith("torch==")]
    Installed(folder, folder / "venv").run("pip", "install", "--quiet", torch)
    return folder / "venv"


@pytest.fixture(scope="module", params=FRAMEWORKS)
def installed(
    request: pytest.FixtureRequest, environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """A new project, installed as its README says, where nothing is that only the others ask for."""
    folder = tmp_path_factory.mktemp(request.param)
    flags = ("--framework", request.param, "--strategy", PARALLEL[0])
    assert mlscaffold("new", "my-digits", *flags, cwd=folder).code == 0
    project = Installed(folder / "my-digits", environment)
    project.run("pip", "install", "--quiet", "--editable", ".[dev]")
    yield project
    others = set().union(*(declared(other) for other in FRAMEWORKS if other != request.param))
    only_ours = declared(request.param) - others
    project.run("pip", "uninstall", "--quiet", "--yes", "my-digits", *only_ours)


def test_what_is_installed_goes_together_and_leaves_the_project_as_it_was(installed: Installed) -> None:
    assert "No broken requirements found" in installed.run("pip", "check")
    assert git(installed.folder, "status", "--porcelain") == ""


def test_its_tests_pass(installed: Installed) -> None:
    said = installed.run("pytest", "-q")
    assert " passed" in said
    assert "skipped" not in said


@pytest.mark.parametrize("check", ["ruff check", "ruff format --check", "mypy", "pre-commit run --all-files"])
def test_its_checks_pass(installed: Installed, check: str) -> None:
    installed.run(*check.split())
    assert git(installed.folder, "status", "--porcelain") == ""


def test_its_wheel_holds_its_modules_and_nothing_else(installed: Installed, tmp_path: Path) -> None:
    installed.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ".")
    [built] = tmp_path.iterdir()
    modules = {f"my_digits/{path.name}" for path in (installed.folder / "src/my_digits").glob("*.py")}
    with zipfile.ZipFile(built) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == modules
