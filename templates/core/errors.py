"""What goes wrong, as a user sees it."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager, suppress
from errno import EDQUOT, EINVAL, EIO, ENOSPC, EPIPE
from typing import Any

LOG = logging.getLogger((__package__ or "").partition(".")[0])


class UserError(Exception):
    """Something a user can mend; the text says what was given, what is wrong and what to do."""

    def __str__(self) -> str:
        text = super().__str__()  # torch puts the traceback of a loader process before it
        return text.rpartition("UserError: ")[2].strip() if text.startswith("Caught UserError") else text


@contextmanager
def checked(name: object, hint: str = "Give one that is whole.") -> Iterator[None]:
    """Turn what goes wrong with a file, which may come from others, into a `UserError`."""
    try:
        yield
    except Exception as error:  # whatever it is, but a lack of memory; NumPy's own is of a file that claims too much
        if isinstance(error, UserError) or type(error).__qualname__ in ("MemoryError", "OutOfMemoryError"):
            raise
        # What torch goes on with after its first sentence is advice to trust the file.
        reason = getattr(error, "strerror", None) or " ".join(repr(error).split()).partition(". ")[0][:200]
        raise UserError(f"{name}: it cannot be used ({reason}). {hint}") from None


class Forgiving(suppress, ContextDecorator):
    """Makes a function ignore that nobody is left to read what it writes."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return super().__exit__(kind, error, trace) and error.errno in (EPIPE, EIO, EINVAL)  # the last is Windows's


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show a user's mistake as one line and exit with 1; anything else keeps its traceback.

    A pipe that nobody reads and a closed terminal end nothing: what is printed is lost. A full disk does.
    Signs that a terminal does not have are printed as escapes.
    """
    vars(sys).update(stdin=sys.stdin or os.fdopen(os.open(os.devnull, os.O_RDONLY)))  # a closed one is None
    for name in ("stdout", "stderr"):
        stream = vars(sys)[name] = vars(sys)[name] or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        getattr(stream, "reconfigure", dict)(errors="backslashreplace", line_buffering=True)  # notebooks have none
        vars(stream).update(write=Forgiving(OSError)(stream.write), flush=Forgiving(OSError)(stream.flush))
    try:
        yield
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python flushes once more
        raise SystemExit(f"error: {error}: what was written is not whole. Make room and try again.") from None
