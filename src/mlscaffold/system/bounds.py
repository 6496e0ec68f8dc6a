"""Let templates and repositories of others use some seconds and a gigabyte; more ends with one line.

Signals and limits of the process do it, as Linux and macOS have them. macOS bounds the time alone, Windows
neither. A single step in C hears of no signal and is ended with its process, so all is computed in another
process first: what ends that one is told in a line.
"""

import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from mlscaffold.errors import CatalogueError, ToolError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SECONDS = 5  # of computing, for one project;
GRACE_SECONDS = 3  # for a single step that began before these were over;
MOST_SECONDS = 120  # for all that a process makes from one template
MOST_MEMORY = 1 << 30  # bytes, beside what the process has already
FETCH_SECONDS = 300  # for a program that fetches
DEEPEST = 50  # folders within each other, of any template: Python walks them by recursion
TOO_DEEP = f"it is more than {DEEPEST} folders deep"

_active = False
_spent: dict[Path, float] = defaultdict(float)


class TooLongError(BaseException):
    """A template computes for longer than any honest one; no `except Exception` on the way keeps it."""


@contextmanager
def bounded(root: Path) -> Iterator[None]:
    """Bound what the template in `root` computes inside; of nested ones the outermost counts."""
    global _active
    if _active or resource is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    seconds = min(SECONDS, MOST_SECONDS - _spent[root])
    begin = _used()
    is_rehearsal = _rehearse(root)
    _active = True
    try:
        with ExitStack() as stack:
            stack.enter_context(_memory())
            stack.enter_context(_time(max(seconds, 0.001)))
            yield
    except TooLongError:
        if is_rehearsal:
            os._exit(signal.SIGXCPU)
        raise _too_long(root) from None
    finally:
        if is_rehearsal:
            os._exit(0)
        _active = False
        _spent[root] += _used() - begin


def _rehearse(root: Path) -> bool:
    """Compute in a process of its own first, and refuse what ends it; true in that process.

    What is computed has no effect but its result. Where other threads run, a copy of this process could hang.
    """
    if not _is_alone():
        return False
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return True
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:  # Ctrl-C
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if code in (signal.SIGXCPU, -signal.SIGXCPU, -signal.SIGKILL):
        raise _too_long(root)
    if code:
        wrong = f"The template in {root} ended the process that computed it, with {code}."
        raise CatalogueError(wrong, "Nothing was written.")
    return False


def _is_alone() -> bool:
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir()) == 1
    except OSError:
        return threading.active_count() == 1


def _too_long(root: Path) -> CatalogueError:
    return CatalogueError(f"The template in {root} computes for more than {SECONDS} seconds.")


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def _time(seconds: float) -> Iterator[None]:
    """Raise after some seconds of computing, and again: a template may swallow the first."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    # A single operation in C hears of no signal: the system ends it, and with it the process.
    release = _limit(resource.RLIMIT_CPU, int(_used()) + SECONDS + GRACE_SECONDS)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        release()


@contextmanager
def _memory() -> Iterator[None]:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    release = _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + MOST_MEMORY)
    try:
        yield
    finally:
        release()


def _limit(what: int, value: int) -> Callable[[], None]:
    """Lower a limit of this process; what is returned sets it back."""
    soft, hard = resource.getrlimit(what)
    with suppress(ValueError, OSError):
        if soft == resource.RLIM_INFINITY or value < soft:
            resource.setrlimit(what, (value, hard))
    return lambda: resource.setrlimit(what, (soft, hard))


@contextmanager
def bounded_programs(source: str, most: int) -> Iterator[None]:
    """Bound the memory of programs started inside, their time and the files that they write."""
    if resource is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise ToolError(f"{source}: git takes longer than {FETCH_SECONDS} seconds.", "Try a clone of it.")

    before = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, FETCH_SECONDS)
    size = _limit(resource.RLIMIT_FSIZE, most)
    computing = _limit(resource.RLIMIT_CPU, int(_used()) + SECONDS * 10)
    try:
        with _memory():
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, before)
        size()
        computing()
