"""Tell from git's objects alone whether a folder is as committed: no filter of its repository is asked."""

import os
from functools import partial
from pathlib import Path

from mlscaffold.releases.hashes import object_hash
from mlscaffold.system.git import LOOK_SECONDS, git

LINK, SUBMODULE = "120000", "160000"


def is_as_committed(folder: Path, copy: Path) -> bool:
    """Compare every file in a copy of a repository's folder with the newest commit; line ends may differ."""
    look = partial(git, folder, seconds=LOOK_SECONDS)
    # Ends at the first difference; a tree that is the index lists no more than that, however git repeats it.
    if look("diff-index", "--cached", "--quiet", "--ignore-submodules=none", "HEAD").returncode:
        return False
    staged = look("ls-files", "--stage", "-z")
    committed = look("ls-tree", "-r", "-z", "HEAD")
    others = look("ls-files", "--others", "--exclude-standard", "-z")
    if committed.returncode or staged.returncode or others.returncode or others.stdout:
        return False
    entries = [_entry(text) for text in committed.stdout.split("\0") if text]
    if {(mode, name, "0", path) for mode, name, path in entries} != _staged(staged.stdout):
        return False
    return all(mode == SUBMODULE or _is_same(copy / path, mode, name) for mode, name, path in entries)


def _entry(text: str) -> tuple[str, str, str]:
    about, path = text.split("\t", 1)
    mode, _, name = about.split()
    return mode, name, path


def _staged(text: str) -> set[tuple[str, ...]]:
    halves = (entry.split("\t", 1) for entry in text.split("\0") if entry)
    return {(*about.split(), path) for about, path in halves}


def _is_same(path: Path, mode: str, name: str) -> bool:
    if mode == LINK:
        return path.is_symlink() and _hash(os.fsencode(path.readlink()), name) == name
    if path.is_symlink() or not path.is_file():
        return False
    if os.name != "nt" and bool(path.stat().st_mode & 0o100) != (mode == "100755"):
        return False
    content = path.read_bytes()
    return name in (_hash(content, name), _hash(content.replace(b"\r\n", b"\n"), name))


def _hash(content: bytes, like: str) -> str:
    return object_hash("blob", content, "sha1" if len(like) == 40 else "sha256").hex()
