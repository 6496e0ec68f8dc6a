"""The wheel holds what a checkout holds, and works where there is none."""

import json
import os
import re
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.support.projects import offered
from tests.support.releases import (
    CONSTRAINTS,
    Environment,
    Releases,
    build,
    clean_settings,
    commit,
    git,
    install_with_pip,
    make_release,
    run,
    uv,
)


@pytest.fixture(scope="module")
def with_pip(two_releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with 0.1.0, made as most users do."""
    return install_with_pip(two_releases.old, tmp_path_factory.mktemp("with-pip"))


def test_the_wheel_holds_the_template_as_git_tracks_it(two_releases: Releases) -> None:
    tracked = git(two_releases.repository, "ls-files", "-z", "copier.yml", "templates").split("\0")
    with zipfile.ZipFile(two_releases.new) as wheel:
        packed = {
            name.removeprefix("mlscaffold/_template/"): name
            for name in wheel.namelist()
            if "_template" in name
        }
        assert sorted(packed) == sorted(filter(None, [*tracked, "constraints.txt"]))
        for name in filter(None, tracked):
            assert wheel.read(packed[name]) == (two_releases.repository / name).read_bytes()


def test_the_wheel_holds_the_package_its_releases_and_nothing_else(two_releases: Releases) -> None:
    with zipfile.ZipFile(two_releases.new) as wheel:
        names = [name for name in wheel.namelist() if "/_template/" not in name]
        metadata = Parser().parsestr(wheel.read("mlscaffold-0.2.0.dist-info/METADATA").decode())
    assert {"mlscaffold/py.typed", "mlscaffold/releases.bundle", "mlscaffold/cli.py"} < set(names)
    page = two_releases.repository / "src/mlscaffold/web/page"
    assert {f"mlscaffold/web/page/{path.name}" for path in page.iterdir()} < set(names)
    assert {name.split("/")[0] for name in names} == {"mlscaffold", "mlscaffold-0.2.0.dist-info"}
    assert (metadata["Version"], metadata["License-Expression"]) == ("0.2.0", "MIT")


def test_a_wheel_made_from_the_sdist_is_the_same(checkout: Path, tmp_path: Path) -> None:
    """Far from any repository, and without git."""
    script = checkout / "templates/project/run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    commit(checkout)
    make_release(checkout, "0.1.0")
    wheel, sdist = build(checkout), build(checkout, "--sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")

    again = build(tmp_path / "unpacked/mlscaffold-0.1.0")

    assert again.read_bytes() == wheel.read_bytes()


def test_the_wheel_works_where_no_checkout_is(new: Environment, tmp_path: Path) -> None:
    command = "from mlscaffold.releases.own import *; print(template_root(), recorded_commit())"
    root, commit_ = new.run("python", "-c", command, cwd=tmp_path).split()
    assert Path(root).is_relative_to(new.folder)
    assert commit_ == "v0.2.0"

    assert new.run("mlscaffold", "--version", cwd=tmp_path) == "mlscaffold 0.2.0\n"
    assert "Usage: mlscaffold" in new.run("mlscaffold", "--help", cwd=tmp_path)


def test_mlscaffold_new_records_what_copier_updates(
    with_pip: Environment, new: Environment, tmp_path: Path
) -> None:
    """Without a terminal, as in a script; then with the next package."""
    with_pip.run("mlscaffold", "new", "digits", "--framework", "ignite", "--ddp", cwd=tmp_path)
    project = tmp_path / "digits"
    assert git(project, "status", "--porcelain") == ""

    assert "Keeping template version 0.1.0" in with_pip.run("copier", "update", cwd=project)
    assert git(project, "status", "--porcelain") == ""

    new.run("copier", "update", cwd=project)
    assert (project / "NOTES.md").read_text().split()[1] == "SECOND"
    assert git(project, "diff", "--name-only", "--diff-filter=U") == ""


def test_the_tool_needs_no_torch(with_pip: Environment, tmp_path: Path) -> None:
    freeze = with_pip.run("pip", "freeze", "--exclude", "mlscaffold", cwd=tmp_path).lower()

    assert not re.search(r"^(torch|numpy|pytorch|lightning)", freeze, re.MULTILINE)


def test_the_constraints_pin_all_that_is_installed(with_pip: Environment, tmp_path: Path) -> None:
    freeze = with_pip.run("pip", "freeze", "--exclude", "mlscaffold", cwd=tmp_path)

    assert set(freeze.split()) <= set(constraints())


def test_the_constraints_are_exact_and_fit_any_machine() -> None:
    lines = constraints()

    assert [
        line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)
    ] == []  # no "+cpu", no address
    assert lines == sorted(lines, key=lambda line: line.split("==")[0].lower())


def test_the_constraints_hold_all_that_any_project_needs(tmp_path: Path) -> None:
    """Where they are installed, as here, a project installs without fetching anything more."""
    needed: set[str] = set()
    for text in {project.files["pyproject.toml"] for project in offered()}:
        metadata = tomllib.loads(text)
        project = metadata["project"]
        needed |= {*metadata["build-system"]["requires"], *project["dependencies"]}
        needed |= {line for extra in project["optional-dependencies"].values() for line in extra}
    assert any(line.startswith("torch") for line in needed)

    dry = ("--dry-run", "--quiet", "--report", "-", "--constraint", CONSTRAINTS)
    report = run(sys.executable, "-m", "pip", "install", *dry, *sorted(needed), cwd=tmp_path)

    fetched = json.loads(report[report.index("{\n") :])["install"]
    assert [item["metadata"]["name"] for item in fetched] == []


def test_each_dependency_is_bounded_on_both_sides() -> None:
    needed = [line for line in requires("mlscaffold") or [] if "extra ==" not in line]

    assert needed
    for line in needed:
        assert re.fullmatch(r"[\w-]+<[\d.]+,>=[\d.]+", line), line


def test_uv_tool_install_gives_the_commands(two_releases: Releases, tmp_path: Path) -> None:
    scripts = tmp_path / "bin"
    folders = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(scripts)}
    options = ("--python", sys.executable, "--constraints", CONSTRAINTS, "--with-executables-from", "copier")
    uv("tool", "install", *options, two_releases.old, **folders)
    settings = clean_settings()
    settings["PATH"] = f"{scripts}{os.pathsep}{settings['PATH']}"

    run(scripts / "mlscaffold", "new", "digits", cwd=tmp_path, settings=settings)
    said = run(scripts / "copier", "update", cwd=tmp_path / "digits", settings=settings)

    assert "Keeping template version 0.1.0" in said


def test_the_lowest_versions_allowed_work(two_releases: Releases, tmp_path: Path) -> None:
    lowest = Environment(tmp_path / "venv", tmp_path / "home")
    lowest.home.mkdir()
    uv("venv", "--python", sys.executable, lowest.folder)
    options = ("--python", lowest.python, "--resolution", "lowest-direct")
    uv("pip", "install", *options, two_releases.new)

    for command in (["--help"], ["options"], ["new", "--help"], ["new", "digits"]):
        lowest.run("mlscaffold", *command, cwd=tmp_path)
    assert "Keeping template version 0.2.0" in lowest.run("copier", "update", cwd=tmp_path / "digits")


def constraints() -> list[str]:
    return CONSTRAINTS.read_text(encoding="utf-8").split()
