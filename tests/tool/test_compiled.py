"""Compiled templates are kept beside the code: they save time, and change nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import Settings, mlscaffold
from tests.support.releases import clean_settings

KEPT = "jinja.*.opt-templates.pyc"


@pytest.fixture
def made(checkout: Path, tmp_path: Path) -> tuple[Path, bytes]:
    """What the first `new` of an installation keeps, and a file of the project that it makes."""
    new(checkout, tmp_path / "first")
    [kept] = (checkout / "src").rglob(KEPT)
    return kept, readme(tmp_path / "first")


def new(checkout: Path, project: Path, **settings: str) -> str:
    ran = mlscaffold(
        "new", project, "--project=digits", "--no-git", cwd=project.parent, env=own(checkout, settings)
    )
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def own(checkout: Path, settings: Settings) -> dict[str, str]:
    return {"PYTHONPATH": str(checkout / "src"), **settings}


def readme(project: Path) -> bytes:
    return (project / "README.md").read_bytes()


def test_a_second_project_compiles_nothing(made: tuple[Path, bytes], checkout: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from jinja2 import Environment\n"
        "Environment.compile = lambda *a, **k: sys.exit(f'compiles {a[1]!r}')\n"
        "sys.argv = ['mlscaffold', 'new', 'second', '--project=digits', '--yes', '--no-git']\n"
        "from mlscaffold.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env=clean_settings() | own(checkout, {}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert readme(tmp_path / "second") == made[1]


@pytest.mark.parametrize("damage", ["empty", "cut", "a bit", "another key", "a folder", "read-only folder"])
def test_whatever_is_wrong_with_what_is_kept_does_no_harm(
    made: tuple[Path, bytes], checkout: Path, tmp_path: Path, damage: str
) -> None:
    kept, expected = made
    content = kept.read_bytes()
    kept.unlink()
    match damage:
        case "empty" | "cut":
            kept.write_bytes(content[: 0 if damage == "empty" else -1])
        case "a bit":
            kept.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
        case "another key":
            kept.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "a folder":
            kept.mkdir()
        case _:  # root is not stopped by modes, a file in the place of the folder stops all
            shutil.rmtree(kept.parent)
            kept.parent.touch()
    new(checkout, tmp_path / "second")
    assert readme(tmp_path / "second") == expected


def test_an_edited_template_is_compiled_anew(
    made: tuple[Path, bytes], checkout: Path, tmp_path: Path
) -> None:
    template = checkout / "templates/project/README.md.jinja"
    template.write_text(template.read_text().replace("## Train", "## Teach"))
    new(checkout, tmp_path / "second")
    assert readme(tmp_path / "second") == made[1].replace(b"## Train", b"## Teach")


def test_where_python_keeps_nothing_nothing_is_kept(checkout: Path, tmp_path: Path) -> None:
    new(checkout, tmp_path / "digits", PYTHONDONTWRITEBYTECODE="1")
    assert not list((checkout / "src").rglob(KEPT))
