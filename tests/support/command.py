"""Run the command line as a user does: another process, its own streams, with or without a terminal."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pyte

from tests.support import durations, forks, proofs
from tests.support.releases import clean_settings

COMMAND = (sys.executable, "-m", "mlscaffold")
AT_START = ("PYTHON", "LANG", "LC_", "TERM", "FORCE_", "NO_COLOR")  # variables that are read when it begins
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
    python: Path | None = None,
    cold: bool = False,
    **settings: str,
) -> Ran:
    """Run `mlscaffold` without a terminal; `env` and `settings` are environment variables on top of ours.

    Those of ours that begin with `without` are left out. It is a fork of a Python that has imported the tool,
    unless it shall be `cold`, or Python or a library looks at something of it when it starts. With
    `forks.python()` as `python` what it trains are forks.
    """
    ours = {name: value for name, value in clean_settings().items() if not name.startswith(without)}
    ours |= {**(env or {}), **settings}
    looked_at = (
        umask >= 0
        or "doctor" in arguments
        or any(n.startswith(AT_START) for n in {**(env or {}), **settings})
    )
    if not (cold or python or looked_at):
        return forked([*COMMAND[1:], *map(str, arguments)], cwd, ours, patience_s)
    done = subprocess.run(
        [python or COMMAND[0], *COMMAND[1:], *arguments],
        cwd=cwd,
        env=ours,
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


def forked(arguments: list[str], cwd: Path, settings: Settings, patience_s: float) -> Ran:
    """Run Python with these arguments in a fork that has imported the tool."""
    proofs.note("tool")
    with durations.timed("commands forked"), tempfile.TemporaryDirectory() as notes:
        out, err = Path(notes, "out"), Path(notes, "err")
        out.touch()
        fork = forks.start(arguments, cwd, settings, out, err, forks.TOOL)
        try:
            code = fork.wait(patience_s)
        finally:
            fork.kill()
        said = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err)]
    assert "Traceback" not in "".join(said), said
    return Ran(code, *said)


def refused(*arguments: str | Path, cwd: Path, code: int, lines: int = 2) -> str:
    """Run a command that is refused in a line or two and prints nothing else; return what it says."""
    ran = mlscaffold(*arguments, cwd=cwd)
    assert ran.code == code, (ran.out, ran.err)
    assert not ran.out
    assert 0 < len(ran.err.splitlines()) <= lines, ran.err
    return ran.err


def terminal(
    *arguments: str,
    cwd: Path,
    dimensions: tuple[int, int] = (50, 120),
    python: Path = Path(COMMAND[0]),
    **settings: str,
) -> pexpect.spawn:
    """Start `mlscaffold` on a terminal, of 50 lines and 120 columns."""
    environment = (
        clean_settings() | {"TERM": "xterm", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1"} | settings
    )
    for name in ("COLUMNS", "LINES"):  # would be believed more than the terminal
        environment.pop(name, None)
    child = pexpect.spawn(
        str(python),
        [*COMMAND[1:], *arguments],
        cwd=str(cwd),
        env=environment,
        encoding="utf-8",
        dimensions=dimensions,
        timeout=60,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored by a shell's background jobs
    )
    child.logfile_read = StringIO()  # all that the terminal was sent
    child.dimensions = dimensions
    return child


def screen(child: pexpect.spawn) -> list[str]:
    """What a user sees who looks at the terminal now: its lines, down to the last that is not empty."""
    lines, columns = child.dimensions
    drawn = pyte.Screen(columns, lines)
    pyte.Stream(drawn).feed(child.logfile_read.getvalue())
    return "\n".join(line.rstrip() for line in drawn.display).rstrip().splitlines()


def until(child: pexpect.spawn, *last: str) -> list[str]:
    """Wait until the screen ends with these lines, and return all of it."""
    patience = child.timeout
    while (seen := screen(child))[-len(last) :] != list(last):
        try:
            child.expect(r".+", timeout=patience)  # whatever comes next
        except (pexpect.TIMEOUT, pexpect.EOF):
            raise AssertionError("\n".join(seen)) from None
    return seen
