"""Completion in real shells: what Tab gives in bash, zsh and fish after the script of ours is loaded."""

import shutil
import subprocess
import sys
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest

from tests.support.releases import clean_settings

SCRIPTS = Path(sys.prefix, "bin")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Environment variables of a user who has mlscaffold on PATH and no settings of any shell."""
    found = clean_settings(tmp_path)
    return found | {
        "PATH": f"{SCRIPTS}:{found['PATH']}",
        "TERM": "dumb",
        "ZDOTDIR": str(tmp_path),
        "PS1": "$ ",
    }


def script(shell: str, folder: Path, settings: dict[str, str]) -> Path:
    """Write the completion script as `--show-completion` prints it."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [SCRIPTS / "mlscaffold", "--show-completion", shell],
        env=settings | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    path = folder / f"complete.{shell}"
    path.write_text(done.stdout)
    return path


def test_bash_completes_flags_and_values(tmp_path: Path, settings: dict[str, str]) -> None:
    loaded = script("bash", tmp_path, settings)
    for line, expected in (("new --fra", "--framework"), ("new --framework i", "ignite"), ("opt", "options")):
        words = ["mlscaffold", *line.split()]
        command = (
            f"source {loaded}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            "$(complete -p mlscaffold | sed 's/.*-F \\([^ ]*\\).*/\\1/') mlscaffold; echo ${COMPREPLY[@]}"
        )
        done = subprocess.run(
            ["bash", "-c", command], env=settings, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [expected], done


def test_fish_completes_flags_and_values(tmp_path: Path, settings: dict[str, str]) -> None:
    loaded = script("fish", tmp_path, settings)
    for line, expected in (("new --fra", "--framework"), ("new --framework i", "ignite"), ("opt", "options")):
        command = f"source {loaded}; complete --do-complete 'mlscaffold {line}'"
        done = subprocess.run(
            ["fish", "-c", command], env=settings, capture_output=True, text=True, check=True
        )
        assert [shown.split("\t")[0] for shown in done.stdout.splitlines()] == [expected], done


def test_zsh_completes_what_tab_is_pressed_on(tmp_path: Path, settings: dict[str, str]) -> None:
    loaded = script("zsh", tmp_path, settings)
    shell = pexpect.spawn("zsh", ["-f", "-i"], cwd=str(tmp_path), env=settings, encoding="utf-8", timeout=60)
    shell.sendline(f"autoload -U compinit; compinit -u; source {loaded}; echo re''ady")
    shell.expect_exact("ready")
    shell.send("mlscaffold new --framework ig\t--no-git --dry-run; echo fini''shed\n")
    shell.expect_exact("finished")
    shown = shell.before
    assert "--framework ignite" in shown
    assert "Nothing was written." in shown
