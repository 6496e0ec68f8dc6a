"""Run the command line as a user does: another process, its own streams, with or without a terminal."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pexpect  # type: ignore[import-untyped]

from tests.support.releases import clean_settings

COMMAND = (sys.executable, "-m", "mlscaffold")
DOWN, UP, ESC, CTRL_C, CTRL_U = "\x1b[B", "\x1b[A", "\x1b", "\x03", "\x15"


Settings = Mapping[str, str]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def mlscaffold(
    *arguments: str | Path,
    cwd: Path,
    umask: int = -1,
    without: str = "-",
    env: Settings | None = None,
    patience_s: float = 120,
    **settings: str,
) -> Ran:
    """Run `mlscaffold` without a terminal; `env` and `settings` are environment variables on top of ours.

    Those of ours that begin with `without` are left out.
    """
    ours = {name: value for name, value in clean_settings().items() if not name.startswith(without)}
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env={**ours, **(env or {}), **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        umask=umask,
        timeout=patience_s,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def refused(*arguments: str | Path, cwd: Path, code: int, lines: int = 2) -> str:
    """Run a command that is refused in a line or two and prints nothing else; return what it says."""
    ran = mlscaffold(*arguments, cwd=cwd)
    assert ran.code == code, (ran.out, ran.err)
    assert not ran.out
    assert 0 < len(ran.err.splitlines()) <= lines, ran.err
    return ran.err


def terminal(*arguments: str, cwd: Path, **settings: str) -> pexpect.spawn:
    """Start `mlscaffold` on a terminal of 120 columns."""
    environment = (
        clean_settings() | {"TERM": "xterm", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1"} | settings
    )
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], *arguments],
        cwd=str(cwd),
        env=environment,
        encoding="utf-8",
        dimensions=(50, 120),
        timeout=60,
    )
    child.logfile_read = StringIO()  # all that the terminal was sent
    return child
