"""Write a project into place in one step, or not at all."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import sleep

from mlscaffold.errors import TargetError
from mlscaffold.rendering.render import File

try:
    import fcntl
except ImportError:  # Windows, where what a killed `new` leaves has to be removed by hand
    fcntl = None  # type: ignore[assignment]

TRIES, PAUSE_S = 100, 0.01  # for the lock on a folder, which someone else may hold for other reasons
STAGING = re.compile(r"\..*\.mlscaffold-[0-9a-f]{8}", re.DOTALL)


def check(target: Path) -> None:
    """Refuse a target that is taken or cannot be written, before anything is asked or made."""
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            target.lstat()  # tells of a path that there cannot be, which is_dir() passes over
        if target.is_dir():
            if any(target.iterdir()):
                raise TargetError(f"{target} exists and is not empty.", "Choose another folder, or empty it.")
        elif target.exists() or target.is_symlink():
            raise TargetError(f"{target} exists and is no folder.", "Choose another name.")
        parent = next(folder for folder in target.absolute().parents if folder.exists())
    except (OSError, ValueError) as error:
        raise _unwritable(target, error) from error
    if not parent.is_dir():
        raise TargetError(f"{target} cannot be made: {parent} is no folder.", "Choose another place.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise TargetError(f"{target} cannot be made: {parent} is not writable.", "Choose another place.")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Offer a folder that becomes the target at the end, in one step; after an error, leave nothing.

    Folders above that are missing arrive in the same step. Who is killed leaves a folder that nobody holds a
    lock on; the next one that comes by removes it.
    """
    check(target)
    place = target.resolve()
    top = next((folder for folder in reversed(place.parents) if not folder.exists()), place)
    # At most 32 characters of the name: the whole has to stay below the limit of the file system, 255 bytes.
    staging = top.with_name(f".{top.name[:32]}.mlscaffold-{os.urandom(4).hex()}")
    with ExitStack() as stack:
        try:
            with _locked(
                top.parent, tries=TRIES
            ) as alone:  # nobody takes ours for abandoned before it is locked
                if alone:
                    _clear(top.parent)
                staging.mkdir()
                stack.enter_context(_locked(staging))
            folder = staging / place.relative_to(top)
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
            _put(staging, top, place)
        except BaseException as error:
            shutil.rmtree(staging, ignore_errors=True)
            if isinstance(error, OSError):
                raise _unwritable(target, error) from error
            raise


def write(files: Mapping[str, File], folder: Path) -> None:
    """Write rendered files below a folder, with the modes that the umask gives."""
    for name, file in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as new:  # follows no link, and replaces nothing
            new.write(file.content)
        if file.executable:
            mode = path.stat().st_mode
            path.chmod(mode | (mode & 0o444) >> 2)  # who may read it may run it


@contextmanager
def _locked(folder: Path, *, tries: int = 1) -> Iterator[bool]:
    """Hold the lock on a folder, which ends with its process; says whether it could be had."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # it may be written but not read; Windows opens no folders
        yield False
        return
    try:
        yield any(_lock(descriptor) for _ in range(tries))
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take a lock; where someone holds it, wait a moment and say so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # or the file system knows no locks
        sleep(PAUSE_S)
        return False
    return True


def _clear(parent: Path) -> None:
    """Remove what others left here when they were killed."""
    for folder in parent.iterdir():
        if STAGING.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            with _locked(folder) as abandoned:
                if abandoned:
                    shutil.rmtree(folder, ignore_errors=True)


def _put(staging: Path, top: Path, place: Path) -> None:
    """Move what is staged to where nothing or an empty folder is; nothing else is ever replaced."""
    try:
        _rename(staging, top)
    except OSError:
        if top == place or not top.is_dir():
            raise
        place.parent.mkdir(parents=True, exist_ok=True)  # someone made a folder above meanwhile
        _rename(staging / place.relative_to(top), place)
        shutil.rmtree(staging, ignore_errors=True)


def _rename(folder: Path, target: Path) -> None:
    if target.is_dir():
        folder.chmod(target.stat().st_mode)
        if os.name == "nt":  # Windows replaces no folder, not even an empty one
            target.rmdir()
    folder.rename(target)


def _unwritable(target: Path, error: OSError | ValueError) -> TargetError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return TargetError(f"{target} cannot be written: {reason}.", "Choose another place.")
