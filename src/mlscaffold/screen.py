"""Print text of others as text: a terminal obeys no sign in it."""

import io
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


# Of a line of a change, by its beginning; the first that fits counts.
COLOURS = {"+++": "1", "---": "1", "diff ": "1", "index ": "1", "@@": "36", "+": "32", "-": "31"}


def shown(text: str) -> str:
    """Write signs that a terminal would obey, or that hide themselves, as escapes."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in "\n\t\xa0" else ascii(sign)[1:-1] for sign in text)


def in_a_line(text: str) -> str:
    """Write a text of others so that it cannot pass for lines of ours; spaces within a line stay."""
    return shown(" ".join(filter(None, map(str.strip, text.splitlines()))))


class Screen(io.TextIOWrapper):
    """A stream that escapes what is printed to it; `obeyed` is the same one for colours of our own."""

    obeyed: TextIO

    def write(self, text: str) -> int:
        super().write(shown(text))
        return len(text)

    def flush(self) -> None:
        self.obeyed.flush()
        super().flush()


def protect() -> None:
    """Let everything that this process prints pass through `shown`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale may lack a character of an answer
            screen = Screen(
                stream.buffer,
                stream.encoding,
                "backslashreplace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            screen.obeyed = stream
            setattr(sys, name, screen)


def obeyed_output() -> TextIO:
    """Standard output as it is, for text whose foreign parts went through `shown`."""
    sys.stdout.flush()
    return getattr(sys.stdout, "obeyed", sys.stdout)


def print_diff(text: str) -> None:
    """Print a change as git writes it, in git's colours on a terminal."""
    output = obeyed_output()
    for line in text.split("\n")[:-1]:
        colour = next((code for sign, code in COLOURS.items() if line.startswith(sign)), "")
        begin, end = (f"\x1b[{colour}m", "\x1b[m") if colour and output.isatty() else ("", "")
        output.write(f"{begin}{shown(line)}{end}\n")


def console() -> "Console":
    """A console for colours; foreign text in it has to go through `shown`."""
    from rich.console import Console

    return Console(file=obeyed_output(), soft_wrap=True)
