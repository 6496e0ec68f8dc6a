"""Copier and git alone make and update projects, from the releases in the installed package."""

import os
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.support.proofs import once_for_all
from tests.support.releases import (
    Environment,
    Releases,
    clean_settings,
    commit,
    copy_repository,
    git,
    install,
    run,
    tagged_wheel,
    upgrade,
)

SOURCE = "git+mlscaffold::default"


@pytest.fixture(scope="session")
def made(old: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = partial(make_project, old)
    return once_for_all(tmp_path_factory, "made-by-copier", make) / "project"


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of a project of 0.1.0 that Copier alone has made, committed."""
    return shutil.copytree(made, tmp_path / "project", symlinks=True)


def make_project(environment: Environment, folder: Path) -> Path:
    """Make a project with Copier alone, and commit it."""
    project = folder / "project"
    environment.run("copier", "copy", "--quiet", "--defaults", SOURCE, project, cwd=folder)
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project)
    return project


def answers(project: Path) -> dict[str, object]:
    stored = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert isinstance(stored, dict)
    return stored


def notes(project: Path) -> list[str]:
    return (project / "NOTES.md").read_text(encoding="utf-8").split()


def test_copier_finds_the_template_in_the_installed_package(project: Path) -> None:
    assert answers(project)["_src_path"] == SOURCE
    assert answers(project)["_commit"] == "v0.1.0"


def test_a_fresh_project_is_up_to_date_and_nothing_is_asked(old: Environment, project: Path) -> None:
    said = old.run("copier", "update", cwd=project)

    assert "Keeping template version 0.1.0" in said
    assert git(project, "status", "--porcelain") == ""


def test_a_new_release_arrives_and_an_edit_stays(new: Environment, project: Path) -> None:
    (project / "NOTES.md").write_text("first\nsecond\nthird\nfourth\nFIFTH\n", encoding="utf-8")
    commit(project, "Edit the last line")

    new.run("copier", "update", cwd=project)

    assert notes(project) == ["first", "SECOND", "third", "fourth", "FIFTH"]
    assert answers(project)["_commit"] == "v0.2.0"
    assert answers(project)["_src_path"] == SOURCE


def test_a_question_that_is_new_takes_its_default(tmp_path: Path) -> None:
    checkout = copy_repository(tmp_path / "checkout")
    before = tagged_wheel(checkout, "0.1.0")
    catalogue = checkout / "copier.yml"
    [question] = re.findall(r"\nci:\n(?:  .*\n)+", catalogue.read_text())
    with catalogue.open("a") as file:
        file.write(
            question.replace("ci:", "colour:").replace("None: none", "Red: red").replace("none", "red")
        )
    commit(checkout)
    after = tagged_wheel(checkout, "0.2.0")
    environment = install(before, tmp_path / "mine")
    project = make_project(environment, tmp_path)

    upgrade(environment, after)
    environment.run("copier", "update", cwd=project)

    assert answers(project)["colour"] == "red"


def test_an_updated_project_is_the_one_that_the_new_release_makes(
    new: Environment, project: Path, tmp_path: Path
) -> None:
    (tmp_path / "fresh").mkdir()
    fresh = make_project(new, tmp_path / "fresh")

    new.run("copier", "update", cwd=project)
    commit(project)

    assert git(project, "rev-parse", "HEAD^{tree}") == git(fresh, "rev-parse", "HEAD^{tree}")


def test_the_package_can_be_upgraded_in_place(project: Path, two_releases: Releases, tmp_path: Path) -> None:
    mine = install(two_releases.old, tmp_path / "mine")
    assert "Keeping" in mine.run("copier", "update", cwd=project)  # Copier keeps what it has fetched

    upgrade(mine, two_releases.new)
    mine.run("copier", "update", cwd=project)

    assert notes(project)[1] == "SECOND"


def test_a_project_moves_between_the_package_and_a_git_address(
    old: Environment, new: Environment, two_releases: Releases, project: Path
) -> None:
    file = project / ".copier-answers.yml"
    address = f"git+{two_releases.repository.as_uri()}"
    file.write_text(file.read_text().replace(SOURCE, address))
    commit(project, "Follow the repository")

    old.run("copier", "update", cwd=project)  # the package has 0.1.0 only, the repository both
    assert notes(project)[1] == "SECOND"
    assert answers(project)["_src_path"] == address

    file.write_text(file.read_text().replace(address, SOURCE))
    commit(project, "Follow the package")
    assert "Keeping template version 0.2.0" in new.run("copier", "update", cwd=project)


def test_git_reads_the_package_like_any_remote(new: Environment, tmp_path: Path) -> None:
    listed = new.run("git", "ls-remote", "mlscaffold::default", cwd=tmp_path)
    names = ["HEAD", "refs/heads/main", "refs/tags/v0.1.0", "refs/tags/v0.2.0"]
    assert sorted(line.split()[1] for line in listed.splitlines()) == names

    new.run("git", "clone", "--quiet", "mlscaffold::default", "clone", cwd=tmp_path)
    assert git(tmp_path / "clone", "describe", "--tags") == "v0.2.0"
    assert git(tmp_path / "clone", "symbolic-ref", "--short", "HEAD") == "main"
    assert new.run("git", "fetch", "--tags", cwd=tmp_path / "clone") == ""


def test_an_unknown_source_names_the_one_that_exists(new: Environment, tmp_path: Path) -> None:
    said = new.run("git", "ls-remote", "mlscaffold::acme", cwd=tmp_path, code=128)

    assert said == "mlscaffold 0.2.0: mlscaffold::acme is no template source. There is mlscaffold::default.\n"


def test_nobody_can_push_to_the_package(new: Environment, tmp_path: Path) -> None:
    new.run("git", "clone", "--quiet", "mlscaffold::default", "clone", cwd=tmp_path)

    said = new.run("git", "push", "origin", "main:other", cwd=tmp_path / "clone", code=1)

    assert said == "error: failed to push some refs to 'mlscaffold::default'\n"


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_the_remote_helper_explains_itself_to_people(
    new: Environment, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    said = new.run("git-remote-mlscaffold", *arguments, cwd=tmp_path, code=1)

    assert said == "git-remote-mlscaffold is started by git, for addresses such as mlscaffold::default.\n"


@pytest.mark.parametrize("damage", [None, b"", b"# v2 git bundle\n", "truncate"])
def test_a_missing_or_damaged_bundle_is_one_line(
    new: Environment, tmp_path: Path, damage: bytes | str | None
) -> None:
    """The package lies in a folder of its own here, so that the environment keeps its bundle."""
    [installed] = new.folder.rglob("mlscaffold/cli.py")
    package = tmp_path / "site/mlscaffold"
    shutil.copytree(installed.parent, package)
    bundle = package / "releases.bundle"
    if damage is None:
        bundle.unlink()
    else:
        bundle.write_bytes(damage if isinstance(damage, bytes) else bundle.read_bytes()[:-40])
    settings = clean_settings(new.home) | {"PYTHONPATH": str(package.parent)}
    settings["PATH"] = f"{new.scripts}{os.pathsep}{settings['PATH']}"

    said = run("git", "clone", "mlscaffold::default", "clone", cwd=tmp_path, code=128, settings=settings)

    assert "Traceback" not in said
    assert str(bundle) in said
    assert not (tmp_path / "clone").exists()
