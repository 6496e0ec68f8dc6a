"""Talk to whoever is at the other end: a person at a terminal, or another program."""

import os
import sys
import textwrap
from pathlib import Path
from shutil import get_terminal_size

from mlscaffold.errors import MlscaffoldError, StoppedError


def can_ask() -> bool:
    """Tell whether someone sits at a terminal that can move its cursor."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def fold(text: str, indent: str = "", first: str | None = None, *, width: int | None = None) -> str:
    """Break a text between words, to lines of the terminal that begin with `indent`, or with `first`.

    Another program gets one line, which it can search.
    """
    begin = indent if first is None else first
    if width is None and not sys.stdout.isatty():
        return begin + text
    most = max(1, get_terminal_size().columns if width is None else width)
    return textwrap.fill(text, most, initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False)


def expand(path: Path) -> Path:
    """Put a home in the place of ~, which a shell leaves as it is after `--answers=`."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (pathlib's fails where there is no such home)


def confirm(question: str, kept: str = "Nothing was changed.") -> None:
    """Ask a question whose answer is yes or no; raises `MlscaffoldError` for any answer but yes."""
    sys.stderr.flush()  # which may hold what the question is about
    try:
        answer = input(f"{question} [y/N]: ")
    except (KeyboardInterrupt, EOFError) as error:
        print()
        raise StoppedError(f"Stopped at a question. {kept}") from error
    if answer.strip().lower() not in ("y", "yes"):
        raise MlscaffoldError(f"Not confirmed. {kept}")
