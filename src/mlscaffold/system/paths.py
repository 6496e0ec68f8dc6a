"""Judge the paths that a stranger's template writes: what other systems take otherwise."""

import re
from collections.abc import Iterable
from unicodedata import normalize

from mlscaffold.errors import CatalogueError

DEVICES = {"aux", "clock$", "con", "conin$", "conout$", "nul", "prn"}
DEVICES |= {f"{name}{number}" for name in ("com", "lpt") for number in range(10)}
SHORT_NAME = re.compile(r"~\d")  # GIT~1 is how Windows calls .git, too


def folded(name: str) -> str:
    """Write a name as a file system does that tells neither case nor forms of Unicode apart."""
    return normalize("NFKC", "".join(sign for sign in name if sign.isprintable())).casefold()


def is_of_git(path: str) -> bool:
    """Tell whether a path leads into git's folder, however a system spells it."""
    parts = re.split(r"[/\\]", path)
    return any(re.fullmatch(r"\.git|git~\d+", folded(part).split(":")[0].rstrip(". ")) for part in parts)


def odd(path: str) -> str:
    """Why a path is not the same path everywhere; nothing for an ordinary one."""
    if is_of_git(path):
        return "is a file of git's own"
    for part in path.split("/"):
        if not part.isprintable() or any(sign in part for sign in '<>:"|?*\\'):
            return "has signs that are no part of a name everywhere"
        if part in (".", "..") or part != part.strip(" ").rstrip("."):
            return "begins or ends with what Windows takes away"
        if folded(part).split(".")[0].rstrip() in DEVICES:
            return "is a device on Windows"
        if SHORT_NAME.search(part):
            return "is another name of a file on Windows"
        if part.startswith("-"):
            return "begins with '-', as options of programs do"
    return ""


def refuse_odd(paths: Iterable[str]) -> None:
    """Refuse paths that lead elsewhere on another system, and those that are one and the same there."""
    known: dict[str, str] = {}
    for path in paths:
        if reason := odd(path):
            raise CatalogueError(f"A template names the file {path!r}, which {reason}.")
        refuse_twins(path, known)


def refuse_twins(path: str, known: dict[str, str]) -> None:
    """Refuse a path that differs from a known one in case alone, or is a file where that has a folder."""
    parts = path.split("/")
    for number in range(1, len(parts) + 1):
        place = "/".join(parts[:number]) + ("/" if number < len(parts) else "")
        other = known.setdefault(folded(place).rstrip("/"), place)
        if other != place:
            raise CatalogueError(
                f"The files {place!r} and {other!r} are one where case or forms of letters do not count."
            )
