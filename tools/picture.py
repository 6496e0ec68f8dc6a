"""Draw docs/terminal.svg for the README from what the commands really show: `python tools/picture.py`.

The commands run on a terminal, keys are pressed as a user would, and pyte keeps the screen.
"""

import io
import os
import sys
import tempfile
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pyte
from rich.console import Console
from rich.text import Text

DOWN, ENTER = "\x1b[B", "\r"
COLUMNS, LINES = 104, 200
# A user whom git knows; nobody's own settings are read or changed.
IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "You"), ("EMAIL", "you@example.invalid"))
}
SHOWN = 14  # lines at the end of what a command prints

# Questions that the picture has no room for.
REST = "--optimizers one --pretrained none --loggers tensorboard --hpo none --serving none"
REST += " --launch none --monitoring none --no-docker --ci none"

# What is typed, then pairs of a text to wait for and the keys to press.
COMMANDS: list[tuple[str, list[tuple[str, str]]]] = [
    (
        f"mlscaffold new --ddp {REST}",
        [
            ("Task", ENTER),
            ("Project name", "digits" + ENTER),
            ("Framework", DOWN + ENTER),
            ("Precision", ENTER),
            ("Make this project?", ENTER),
        ],
    ),
    ("cd digits", []),
    ("torchrun --nproc-per-node 2 -m digits.train --num_threads 1", []),
    ("python -m digits.evaluate", []),
]


def main() -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for command, keys in COMMANDS:
            console.print(Text(f"$ {command}", style="bold"))
            if command.startswith("cd "):
                here /= command.removeprefix("cd ")
                continue
            lines = show(command, keys, here)
            shortened = lines if keys or len(lines) <= SHOWN else ["...", *lines[-SHOWN:]]
            console.print(Text("\n".join(shortened)))
    console.save_svg("docs/terminal.svg", title="mlscaffold")


def show(command: str, keys: list[tuple[str, str]], folder: Path) -> list[str]:
    """Run a command on a terminal, press keys, and return what stands on the screen at the end."""
    scripts = Path(sys.executable).parent
    settings = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": "src"}
    settings |= {"TERM": "xterm" if keys else "dumb", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": str(COLUMNS)}
    settings |= IDENTITY
    child = pexpect.spawn(
        "bash", ["-c", command], cwd=str(folder), env=settings, encoding="utf-8",
        dimensions=(LINES, COLUMNS), timeout=120,
    )  # fmt: skip
    child.logfile_read = io.StringIO()
    for text, pressed in keys:
        child.expect_exact(text)
        child.send(pressed)
    child.expect(pexpect.EOF)
    screen = pyte.Screen(COLUMNS, LINES)
    pyte.Stream(screen).feed(child.logfile_read.getvalue())
    return [line.rstrip() for line in "\n".join(screen.display).rstrip().splitlines()]


if __name__ == "__main__":
    main()
