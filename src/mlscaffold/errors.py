"""What can go wrong in a way that its user can act on; `cli.py` prints it and chooses the exit code."""

import re
from collections.abc import Iterable
from reprlib import Repr

from mlscaffold.screen import in_a_line

MOST_TEXT = 4_000  # characters of an error
STOPPED = 130  # how shells know that Ctrl-C ended a command
# Of an address, be it in one of the short forms: what stands before its last @, and what follows its ? or #.
CREDENTIALS = r"(?<=//)[^\s'\"<>]*(?:@|%40)|(?<![^\s'\"<>(+])[^\s'\"<>/@:]+:[^\s'\"<>/]*@"
QUERY = (
    r"((?i:[a-z][a-z0-9+.-]{0,30}://|\bg[hl]:|[^\s'\"<>/:@]{1,64}@[^\s'\"<>/:@]{1,256}:)[^\s'\"<>?#]*?)"
    r"(?:[?#]|%3[fF]|%23)[^\s'\"<>]*"
)
NAMED = r"(?i)([?&][\w-]{0,40}(?:token|secret|passw|key|auth)[\w-]{0,40}=)[^\s'\"<>&]*"


class MlscaffoldError(Exception):
    """Something was refused or failed: what was given and what is wrong with it, then what to do."""

    exit_code = 1

    def __init__(self, wrong: str, remedy: str = "", *more: str) -> None:
        """One line, and one for each text in `more`, however many the texts of others in it have."""
        lines = (f"{wrong} {remedy}", *more)
        super().__init__("\n".join(masked(in_a_line(line)) for line in lines))


class UsageError(MlscaffoldError):
    """What was typed cannot be meant: an unknown value, answers that do not go together."""

    exit_code = 2


class AnswerError(UsageError):
    """An answer that no question of the catalogue takes."""


class CatalogueError(MlscaffoldError):
    """A `copier.yml` or a template that cannot be used: a mistake of whoever wrote it."""


class TargetError(MlscaffoldError):
    """A place where no project can be written."""


class ProjectError(MlscaffoldError):
    """A project that cannot be changed as it is now."""


class KitError(MlscaffoldError):
    """A starter kit that cannot be used: a mistake of whoever wrote it, or worse."""


class ToolError(MlscaffoldError):
    """A program that mlscaffold ran, git or pip, did not do its work."""


class StoppedError(MlscaffoldError):
    """The user pressed Ctrl-C."""

    exit_code = STOPPED


def masked(text: str) -> str:
    """Write a text without the passwords and tokens of the addresses in it."""
    if len(text) > MOST_TEXT:  # the word that is cut may hold half a secret
        text = f"{text[:MOST_TEXT].rpartition(' ')[0]} ..."
    if not any(sign in text for sign in ("@", "//", "%40", "gh:", "gl:", "?")):
        return text
    text = re.sub(QUERY, r"\1?***", re.sub(CREDENTIALS, "***@", text))
    return re.sub(NAMED, r"\1***", text)


def short(value: object) -> str:
    """Write any value, however large or deep, in a few words."""
    try:
        text = _repr.repr(value)
    except ValueError:  # an integer with more digits than Python writes
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


_repr = Repr()
_repr.maxlevel, _repr.maxstring = 2, 80


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Name the nearest of the known words as a question, or nothing when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(given.lower(), list(known), n=1)
    return f"Did you mean {near[0]}?" if near else ""
