"""Compute what git would call files, folders and the commit of a release, without git.

A release is one commit without a parent; author, date and message are fixed, so its hash follows from its
files.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

SIGNATURE = "mlscaffold contributors <contributors@mlscaffold.invalid> 1767225600 +0000"  # 2026-01-01

_Entry = tuple[str, bytes]  # mode in octal, hash


def tree_hash(root: Path, names: Iterable[str]) -> str:
    """Compute the hash that git gives to a tree of these files and folders of `root`, without git."""
    entries = {}
    for name in names:
        entry = _tree(root / name) if (root / name).is_dir() else _blob(root / name)
        if entry:
            entries[name] = entry
    return _tree_hash(entries).hex()


def commit_hash(tree: str, tag: str) -> str:
    """Compute the hash of the release commit `tag` of `tree`; `tools/release.py` writes the same commit."""
    return object_hash("commit", release_commit(tree, tag)).hex()


def release_commit(tree: str, tag: str) -> bytes:
    """Compose the commit object of a release, as git stores it."""
    return f"tree {tree}\nauthor {SIGNATURE}\ncommitter {SIGNATURE}\n\nmlscaffold {tag}\n".encode()


def is_template_file(name: str) -> bool:
    """Tell a template from what Python leaves beside it: an installer compiles every `.py` it sees."""
    return name != "__pycache__" and not name.endswith((".pyc", ".pyo"))


def _tree(folder: Path) -> _Entry | None:
    """Hash a folder; `None` for one without files, which git does not keep."""
    entries = {}
    for item in os.scandir(folder):
        if is_template_file(item.name):
            entry = _tree(Path(item.path)) if item.is_dir() else _blob(Path(item.path))
            if entry:
                entries[item.name] = entry
    return ("40000", _tree_hash(entries)) if entries else None


def _tree_hash(entries: dict[str, _Entry]) -> bytes:
    def in_order_of_git(item: tuple[str, _Entry]) -> bytes:
        name, (mode, _) = item
        return name.encode() + (b"/" if mode == "40000" else b"")

    lines = (
        f"{mode} {name}".encode() + b"\0" + digest
        for name, (mode, digest) in sorted(entries.items(), key=in_order_of_git)
    )
    return object_hash("tree", b"".join(lines))


def _blob(path: Path) -> _Entry:
    content = path.read_bytes()
    # Windows keeps no such bit; a release holds no file where the two differ.
    executable = content.startswith(b"#!") if os.name == "nt" else path.stat().st_mode & 0o100
    return "100755" if executable else "100644", object_hash("blob", content)


def object_hash(kind: str, content: bytes, algorithm: str = "sha1") -> bytes:
    """Compute the hash that git gives to an object of a kind: blob, tree or commit."""
    return hashlib.new(
        algorithm, f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False
    ).digest()
