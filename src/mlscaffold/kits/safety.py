"""Say why nothing in the folder of a stranger's template is to be read or rendered."""

import os
from collections.abc import Iterator
from pathlib import Path

from mlscaffold.catalogue.answers import read_mapping
from mlscaffold.errors import KitError, short
from mlscaffold.kits.snapshot import MOST_BYTES, MOST_FILES
from mlscaffold.system.paths import is_of_git, odd

# Settings of copier.yml that let a template run something, read elsewhere, or write elsewhere.
REFUSED = (
    "tasks",
    "migrations",
    "jinja_extensions",
    "external_data",
    "message_before_copy",
    "secret_questions",
)


def unsafe(folder: Path) -> str:
    """Why nothing in the folder of a kit is to be read or rendered; nothing when it is safe."""
    count = size = 0
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            return f"{name} is a link, which could lead anywhere"
        if not path.is_dir() and not path.is_file():
            return f"{name} is neither a file nor a folder"
        if is_of_git(name):
            return f"{name} is a file of git's own"
        count, size = count + 1, size + path.stat().st_size
        if count > MOST_FILES or size > MOST_BYTES:
            return f"it holds more than {MOST_FILES:,} files or {MOST_BYTES >> 20} MiB"
    return _unsafe_settings(folder) if (folder / "copier.yml").is_file() else ""


def _unsafe_settings(folder: Path) -> str:
    document = read_mapping(folder / "copier.yml")
    for name in REFUSED:
        if f"_{name}" in document:
            return f"copier.yml has _{name}: a kit runs nothing and reads nothing elsewhere"
    inside = document.get("_subdirectory", "")
    if (
        not isinstance(inside, str)
        or not inside
        or any(odd(part) for part in inside.split("/"))
        or not (folder / inside).is_dir()
    ):
        return (
            f"copier.yml: _subdirectory is {short(inside)}; name the folder of the overlay, such as overlay"
        )
    return ""


def refuse_what_is_unsafe(folder: Path) -> None:
    if reason := unsafe(folder):
        raise KitError(f"{folder}: {reason}.", "Nothing was written.")


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=False):
        if ".git" in folders and Path(place) == folder:
            folders.remove(".git")
        yield from (Path(place, name) for name in (*folders, *names))
