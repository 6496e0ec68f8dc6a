"""Write a project into place in one step, or not at all."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mlscaffold.errors import TargetError
from mlscaffold.render import File


def check(target: Path) -> None:
    """Refuse a target that is taken or cannot be written, before anything is asked or made."""
    try:
        if target.is_dir():
            if any(target.iterdir()):
                raise TargetError(f"{target} exists and is not empty.", "Choose another folder, or empty it.")
        elif target.exists() or target.is_symlink():
            raise TargetError(f"{target} exists and is no folder.", "Choose another name.")
        parent = next(folder for folder in target.absolute().parents if folder.exists())
    except OSError as error:
        raise _unwritable(target, error) from error
    if not parent.is_dir():
        raise TargetError(f"{target} cannot be made: {parent} is no folder.", "Choose another place.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise TargetError(f"{target} cannot be made: {parent} is not writable.", "Choose another place.")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Offer a folder beside the target and rename it into place at the end; after an error, leave nothing."""
    check(target)
    place = target.resolve()
    missing = [folder for folder in place.parents if not folder.exists()]
    # At most 32 characters of the name: the whole has to stay below the limit of the file system, 255 bytes.
    staging = place.with_name(f".{place.name[:32]}.mlscaffold-{os.urandom(4).hex()}")
    try:
        staging.mkdir(parents=True)
        yield staging
        _rename(staging, place)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):  # someone else may have put something there meanwhile
                folder.rmdir()
        if isinstance(error, OSError):
            raise _unwritable(target, error) from error
        raise


def write(files: Mapping[str, File], folder: Path) -> None:
    """Write rendered files below a folder, with the modes that the umask gives."""
    for name, file in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        if file.executable:
            mode = path.stat().st_mode
            path.chmod(mode | (mode & 0o444) >> 2)  # who may read it may run it


def _rename(staging: Path, target: Path) -> None:
    """Move a folder to where nothing or an empty folder is; a folder that is not empty is never replaced."""
    if target.is_dir():
        staging.chmod(target.stat().st_mode)
        if os.name == "nt":  # Windows replaces no folder, not even an empty one
            target.rmdir()
    staging.rename(target)


def _unwritable(target: Path, error: OSError) -> TargetError:
    return TargetError(f"{target} cannot be written: {error.strerror or error}.", "Choose another place.")
