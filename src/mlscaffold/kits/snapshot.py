"""Copy the folder of a kit, so that what was judged is what is written, whatever happens there meanwhile."""

import errno
import os
import stat
from pathlib import Path

from mlscaffold.system.bounds import DEEPEST, TOO_DEEP

MOST_FILES, MOST_BYTES = 10_000, 64 << 20  # of a kit


def snapshot(folder: Path, place: Path) -> Path:
    """Copy a folder as it is, links as links, without git's; no more of it than is needed to refuse it.

    Folders are entered by their descriptors, so that no link which comes meanwhile leads elsewhere. Windows
    has no such thing: there the folder itself is returned.
    """
    if not hasattr(os, "fwalk"):
        return folder
    count, left = 0, MOST_BYTES + 1
    for where, folders, names, here in os.fwalk(folder):
        inside = place / Path(where).relative_to(folder)
        if len(inside.parts) - len(place.parts) > DEEPEST:
            raise OSError(errno.ENAMETOOLONG, TOO_DEEP)
        if inside == place and ".git" in folders:
            folders.remove(".git")
        inside.mkdir(parents=True)
        for name in (*folders, *names):
            count += 1
            left -= _copy(name, here, inside / name, left)
            if count > MOST_FILES or left <= 0:
                return place
    return place


def _copy(name: str, here: int, new: Path, most: int) -> int:
    """Copy one entry of a folder, but for what a folder holds; returns how many bytes it has."""
    kind = os.stat(name, dir_fd=here, follow_symlinks=False)
    if stat.S_ISLNK(kind.st_mode):
        new.symlink_to(os.readlink(name, dir_fd=here))
        return 0
    if stat.S_ISDIR(kind.st_mode):
        return 0
    if not stat.S_ISREG(kind.st_mode):
        os.mkfifo(new)  # any that is no file
        return 0
    # What stands there now may be another thing than a moment ago, such as a pipe that nobody writes to.
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    with os.fdopen(opened, "rb") as old, new.open("xb") as file:
        content = old.read(most) if stat.S_ISREG(os.fstat(opened).st_mode) else b""
        file.write(content)
    new.chmod(stat.S_IMODE(kind.st_mode) & 0o777 | 0o600)
    return len(content)
