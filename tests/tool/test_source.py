"""Files are known as a release, or not, without git."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from mlscaffold.releases.own import template_root, template_tree
from tests.support.releases import NOTES, ROOT, change_notes, clean_settings, commit, git, make_release, run


def python(checkout: Path, command: str, code: int = 0) -> str:
    """Run a line of Python with the package of a checkout, and with no program but Python at hand."""
    settings = clean_settings() | {"PYTHONPATH": str(checkout / "src"), "PATH": ""}
    line = f"from mlscaffold.releases import own; {command}"
    return run(sys.executable, "-c", line, cwd=checkout.parent, code=code, settings=settings).strip()


def recorded(checkout: Path) -> str:
    """Ask a checkout which release a project made from it would record."""
    return python(checkout, "print(own.recorded_commit())")


@pytest.fixture
def released(checkout: Path) -> Path:
    make_release(checkout, "0.1.0")
    return checkout


def test_in_a_checkout_the_template_is_the_repository() -> None:
    assert template_root() == ROOT


def test_the_hash_of_the_template_is_the_one_that_git_gives(checkout: Path) -> None:
    for path, text in {
        "a/file": "",  # git sorts a folder as if its name ended in a slash
        "a-b": "between a and a/",
        "a.b/deep/er.py": "ä\n",
        "a0": "after a/",
        "Z{{ package }}": "capitals first",
        "run.sh": "#!/bin/sh\n",
    }.items():
        file = checkout / "templates/odd" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (checkout / "templates/odd/run.sh").chmod(0o755)
    commit(checkout)
    (checkout / "templates/empty/folder").mkdir(parents=True)

    entries = git(checkout, "ls-tree", "HEAD", "copier.yml", "templates")
    tree = run("sh", "-c", f"printf '%s\\n' '{entries}' | git mktree", cwd=checkout).strip()

    assert template_tree(checkout) == tree


def test_a_released_checkout_records_its_release(released: Path) -> None:
    assert recorded(released) == "v0.1.0"


def test_bytecode_beside_the_templates_is_no_change(released: Path) -> None:
    cache = released / "templates/project/__pycache__"
    cache.mkdir()
    (cache / "train.cpython-311.pyc").write_bytes(b"\0")

    assert recorded(released) == "v0.1.0"


def test_an_edited_file_records_nothing(released: Path) -> None:
    with (released / "copier.yml").open("a") as file:
        file.write("# a thought\n")

    assert recorded(released) == "None"


def test_a_committed_change_after_the_release_records_nothing(released: Path) -> None:
    change_notes(released)

    assert recorded(released) == "None"


def test_one_file_more_or_less_records_nothing(released: Path) -> None:
    (released / "templates/project/more.txt").touch()
    assert recorded(released) == "None"

    (released / "templates/project/more.txt").unlink()
    assert recorded(released) == "v0.1.0"

    (released / NOTES).unlink()
    assert recorded(released) == "None"


@pytest.mark.skipif(os.name == "nt", reason="files have no executable bit")
def test_a_changed_mode_records_nothing(released: Path) -> None:
    (released / NOTES).chmod(0o755)

    assert recorded(released) == "None"


def test_a_version_without_a_release_records_nothing(released: Path) -> None:
    (released / "src/mlscaffold/__init__.py").write_text('__version__ = "0.1.1.dev0"\n')

    assert recorded(released) == "None"


def test_no_releases_record_nothing(checkout: Path) -> None:
    assert recorded(checkout) == "None"


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"# v2 git bundle\n0123", b"# v2 git bundle\n0123 refs"])
def test_a_damaged_bundle_is_reported(released: Path, content: bytes) -> None:
    bundle = released / "src/mlscaffold/releases.bundle"
    bundle.write_bytes(content)

    said = python(released, "own.recorded_commit()", code=1)

    assert f"MlscaffoldError: {bundle} " in said
    assert said.endswith("Install mlscaffold anew.")


def test_missing_templates_are_reported(checkout: Path) -> None:
    shutil.rmtree(checkout / "templates")
    (checkout / "copier.yml").unlink()

    said = python(checkout, "own.template_root()", code=1)

    assert said.endswith(f"There are no templates in {checkout}. Install mlscaffold anew.")
