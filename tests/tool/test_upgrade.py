"""The package as it was first released, and as it is now: a project of the one, edited, meets the other."""

import tarfile
from io import BytesIO
from pathlib import Path
from subprocess import run as run_raw

import pytest
from packaging.version import Version

from mlscaffold.releases.bundle import releases
from mlscaffold.releases.own import BUNDLE
from tests.support.projects import FRAMEWORKS
from tests.support.releases import ROOT, build, commit, copy_files, git, install, make_release, upgrade

FIRST, NOW = "v0.1.0", "99.0.0"
MINE = "\n\ndef mine() -> None:\n    pass\n"


def sources_of(tag: str, folder: Path) -> Path:
    """Write this repository's files as they were when a release was the newest."""
    path = BUNDLE.relative_to(ROOT).as_posix()
    for name in git(ROOT, "log", "--format=%H", "--", path).split():
        (folder / "bundle").write_bytes(output("cat-file", "blob", f"{name}:{path}"))
        if max(releases(folder / "bundle"), key=Version) == tag:
            with tarfile.open(fileobj=BytesIO(output("archive", name))) as archive:
                archive.extractall(folder / "sources", filter="data")
            return folder / "sources"
    if git(ROOT, "rev-parse", "--is-shallow-repository") == "true":
        pytest.skip(f"this clone is too shallow to hold the sources of {tag}")
    raise AssertionError(f"{tag} was never the newest release")


def output(*arguments: str) -> bytes:
    return run_raw(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def sources_of_now(folder: Path) -> Path:
    """Copy this repository's files, and release them."""
    sources = copy_files(folder / "sources")
    (sources / "CHANGELOG.md").write_text(f"## [{NOW}]\n\nNow.\n", encoding="utf-8")
    git(sources, "init", "--quiet")
    commit(sources)
    make_release(sources, NOW)
    return sources


def edit(project: Path) -> None:
    """Change files that both releases have, and add one: what becomes of others, `test_from_0x.py` tells."""
    for name in ("src/digits/__init__.py", "src/digits/mine.py"):
        with (project / name).open("a") as file:
            file.write(MINE)
    settings = project / "configs/default.yaml"
    settings.write_text(f"{settings.read_text()}# mine\n")


@pytest.mark.timeout(900)
def test_copier_and_our_update_bring_the_newest_release_and_keep_the_edits(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    environment = install(build(sources_of(FIRST, tmp_path / "old")), tmp_path / "environment")
    for framework in FRAMEWORKS:
        words = ("mlscaffold", "new", "digits", "--framework", framework, "--ddp", "--yes")
        (tmp_path / framework / "fresh").mkdir(parents=True)
        environment.run(*words, cwd=tmp_path / framework)
        edit(tmp_path / framework / "digits")
        commit(tmp_path / framework / "digits")
        git(tmp_path / framework, "clone", "--quiet", "digits", "clone")

    upgrade(environment, build(sources_of_now(tmp_path / "new")))

    for framework in FRAMEWORKS:
        project, clone = tmp_path / framework / "digits", tmp_path / framework / "clone"
        environment.run("copier", "update", cwd=project)
        environment.run("mlscaffold", "update", "--yes", cwd=clone)
        expected = tmp_path / framework / "fresh/digits"
        copy = ("copier", "copy", "--quiet", "--defaults", "--vcs-ref", f"v{NOW}")
        answers = ("--data-file", project / ".copier-answers.yml")
        environment.run(*copy, *answers, "git+mlscaffold::default", expected, cwd=tmp_path)
        edit(expected)
        git(expected, "init", "--quiet")
        for folder in (project, clone, expected):
            commit(folder)
        trees = [git(folder, "rev-parse", "HEAD^{tree}") for folder in (project, clone, expected)]
        assert len(set(trees)) == 1
