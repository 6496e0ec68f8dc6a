"""A release is the same for whoever makes it, and nothing doubtful is released."""

import re
import shutil
from pathlib import Path

import pytest
from packaging.version import Version

from mlscaffold import __version__
from mlscaffold.releases.bundle import refs, releases
from mlscaffold.releases.hashes import commit_hash
from mlscaffold.releases.own import BUNDLE, template_tree
from tests.support.releases import NOTES, ROOT, change_notes, commit, copy_repository, git, make_release


def bundle(checkout: Path) -> Path:
    return checkout / "src/mlscaffold/releases.bundle"


@pytest.fixture
def tracked() -> dict[str, str]:
    """The releases in this repository's own bundle."""
    found = releases(BUNDLE)
    if not found:
        pytest.skip("nothing is released yet")
    return found


def test_the_package_has_the_version_of_its_last_release(tracked: dict[str, str]) -> None:
    assert max(tracked, key=Version) == f"v{__version__}"


def test_the_changelog_tells_of_every_release(tracked: dict[str, str]) -> None:
    told = re.findall(r"^## \[(.+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert {tag.removeprefix("v") for tag in tracked} <= set(told)


def test_every_hash_still_follows_from_its_files(tracked: dict[str, str], tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(BUNDLE), "clone")

    for tag, commit_ in tracked.items():
        git(tmp_path / "clone", "checkout", "--quiet", tag)
        assert commit_hash(template_tree(tmp_path / "clone"), tag) == commit_


def test_a_release_is_a_tag_on_a_commit_of_the_template_alone(checkout: Path, tmp_path: Path) -> None:
    make_release(checkout, "0.1.0")

    git(tmp_path, "clone", "--quiet", str(bundle(checkout)), "clone")
    clone = tmp_path / "clone"
    assert git(clone, "tag") == "v0.1.0"
    assert git(clone, "rev-list", "--parents", "v0.1.0") == releases(bundle(checkout))["v0.1.0"]
    assert sorted(path.name for path in clone.iterdir()) == [".git", "copier.yml", "templates"]
    assert git(clone, "rev-parse", "v0.1.0:templates") == git(checkout, "rev-parse", "HEAD:templates")
    assert git(clone, "rev-parse", "v0.1.0:copier.yml") == git(checkout, "rev-parse", "HEAD:copier.yml")


def test_a_release_is_added_to_those_before_it(checkout: Path) -> None:
    make_release(checkout, "0.1.0")
    first = releases(bundle(checkout))
    change_notes(checkout)
    make_release(checkout, "0.2.0")

    both = releases(bundle(checkout))
    assert list(both) == ["v0.1.0", "v0.2.0"]
    assert both["v0.1.0"] == first["v0.1.0"]
    assert refs(bundle(checkout))["refs/heads/main"] == both["v0.2.0"]
    assert (checkout / "src/mlscaffold/__init__.py").read_text().count('__version__ = "0.2.0"') == 1


def test_two_people_make_the_same_release(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release(checkout, "0.1.0")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    other = copy_repository(tmp_path / "other")
    git(other, "commit", "--quiet", "--allow-empty", "--message", "History is no part of a release")
    git(other, "config", "user.name", "someone else")
    git(other, "config", "commit.gpgsign", "true")
    make_release(other, "0.1.0")

    assert refs(bundle(other)) == refs(bundle(checkout))


def test_a_release_can_be_made_in_a_linked_worktree(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    make_release(tmp_path / "linked", "0.1.0")
    make_release(checkout, "0.1.0")

    assert refs(bundle(tmp_path / "linked")) == refs(bundle(checkout))


def test_the_same_release_twice_says_so(checkout: Path) -> None:
    make_release(checkout, "0.1.0")
    before = bundle(checkout).read_bytes()

    assert "v0.1.0 is released already, with these files" in make_release(checkout, "0.1.0")
    assert bundle(checkout).read_bytes() == before


def test_a_released_version_never_changes(checkout: Path) -> None:
    make_release(checkout, "0.1.0")
    before = bundle(checkout).read_bytes()
    change_notes(checkout)

    said = make_release(checkout, "0.1.0", code=1)

    assert said == "release: v0.1.0 is released with other files. Give these a newer version.\n"
    assert bundle(checkout).read_bytes() == before


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("", "no version was given. Name it: make release VERSION=0.2.0."),
        ("next", "'next' is no version by PEP 440. Write it as in 0.2.0 or 0.2.0rc1."),
        ("v0.2.0", "'v0.2.0' is not how a release is written. Write 0.2.0."),
        ("0.2.0-rc.1", "'0.2.0-rc.1' is not how a release is written. Write 0.2.0rc1."),
        ("0.2.0+mine", "'0.2.0+mine' is not how a release is written. Write 0.2.0."),
        ("0.1.0rc1", "0.1.0rc1 is not newer than v0.1.0, the last release. Choose a newer version."),
        ("0.3.0", "CHANGELOG.md says nothing about 0.3.0. Say what changed, under `## [0.3.0] - <date>`."),
    ],
)
def test_a_doubtful_version_is_refused(checkout: Path, version: str, reason: str) -> None:
    make_release(checkout, "0.1.0")
    before = git(checkout, "status", "--porcelain")

    assert make_release(checkout, version, code=1) == f"release: {reason}\n"
    assert git(checkout, "status", "--porcelain") == before
    assert list(releases(bundle(checkout))) == ["v0.1.0"]


def test_an_empty_section_of_the_changelog_is_none(checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## [0.2.0] - 2026-12-02\n\n## [0.1.0]\n\n- A.\n")

    assert "CHANGELOG.md says nothing about 0.2.0." in make_release(checkout, "0.2.0", code=1)


@pytest.mark.parametrize("path", [NOTES, "copier.yml", "templates/project/new.txt"])
def test_a_change_that_is_not_committed_is_refused(checkout: Path, path: str) -> None:
    with (checkout / path).open("a") as file:
        file.write("# more\n")

    said = make_release(checkout, "0.1.0", code=1)

    assert path in said
    assert said.startswith("release: The template has changes that are not committed.")
    assert not bundle(checkout).exists()


def test_a_change_elsewhere_does_not_matter(checkout: Path) -> None:
    (checkout / "README.md").write_text("not committed\n")

    make_release(checkout, "0.1.0")


def test_a_file_that_git_ignores_is_refused(checkout: Path) -> None:
    ignored = checkout / "templates/project/build"  # a wheel would carry it
    ignored.mkdir()
    (ignored / "left.txt").touch()

    assert "git status --ignored" in make_release(checkout, "0.1.0", code=1)


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("#!/bin/sh\n", 0o644, "begins with #!, but is not executable."),
        ("echo\n", 0o755, "is executable, but has no #! line."),
    ],
)
def test_a_mode_that_windows_could_not_know_is_refused(
    checkout: Path, text: str, mode: int, reason: str
) -> None:
    script = checkout / "templates/project/run.sh"
    script.write_text(text)
    script.chmod(mode)
    commit(checkout)

    assert f"templates/project/run.sh {reason}" in make_release(checkout, "0.1.0", code=1)


def test_a_link_is_refused(checkout: Path) -> None:
    (checkout / "templates/project/link").symlink_to("NOTES.md")
    commit(checkout)

    assert "templates/project/link is a link" in make_release(checkout, "0.1.0", code=1)


def test_a_folder_without_git_is_refused(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")

    assert "not a git repository" in make_release(checkout, "0.1.0", code=1)
