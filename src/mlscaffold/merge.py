"""Merge what a template changed into a project, in git's objects: no file is touched until it is applied.

Git's own three-way merge (`git merge-tree`, strategy ort) follows files that either side renamed, and reports
every edit that it cannot keep.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlscaffold.errors import ToolError
from mlscaffold.git import git, run_git
from mlscaffold.lines import Hunk, merge_lines
from mlscaffold.render import File
from mlscaffold.target import write

# The same merge on every machine, whatever its user has set.
SETTINGS = [
    *("-c", "core.autocrlf=false", "-c", "core.safecrlf=false", "-c", "core.fileMode=true"),
    *("-c", "merge.renames=true", "-c", "merge.directoryRenames=true", "-c", "merge.conflictStyle=merge"),
]
NOBODY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "mlscaffold"), ("EMAIL", "mlscaffold@invalid"), ("DATE", "1767225600 +0000"))
}
HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
LINE = re.compile(r"[^\n]*\n|[^\n]+")  # as git sees them: a form feed ends none
BASE, OURS, THEIRS = 1, 2, 3  # stages of git's index
Side = tuple[str, str]  # mode and object
Conflicts = dict[str, dict[int, Side]]  # the sides that there are, by path


@dataclass
class Merged:
    """What came out of a merge."""

    tree: str
    conflicts: Conflicts  # with markers in the files of `tree`
    dropped: list[str] = field(default_factory=list)  # edited by the user, removed by the template
    kept_deleted: list[str] = field(default_factory=list)  # deleted by the user, changed by the template


class Store:
    """The objects of a repository."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def git(self, *arguments: str, given: str = "", **settings: str) -> str:
        return run_git(self.top, *SETTINGS, *arguments, given=given, **settings)

    def tree_of(self, files: Mapping[str, File]) -> str:
        """Store rendered files as a tree."""
        with tempfile.TemporaryDirectory(prefix="mlscaffold-") as temporary:
            place = Path(temporary, "files")
            place.mkdir()
            write(files, place)
            settings = {"GIT_INDEX_FILE": str(Path(temporary, "index")), "GIT_DIR": self._git_dir()}
            settings["GIT_WORK_TREE"] = str(place)
            run_git(place, *SETTINGS, "add", "--all", "--force", ".", **settings)
            return run_git(place, "write-tree", **settings)

    def subtree(self, prefix: str) -> str:
        """The committed tree of the project."""
        return self.git("rev-parse", f"HEAD:{prefix.rstrip('/')}" if prefix else "HEAD^{tree}")

    def entry(self, tree: str, path: str) -> str:
        """A file of a tree, as `edit` takes it; without such a file, what removes it."""
        return self.git("ls-tree", "-z", tree, "--", path).rstrip("\0") or f"0 {'0' * 40}\t{path}"

    def edit(self, tree: str, entries: list[str]) -> str:
        """A tree with some entries changed."""
        with tempfile.TemporaryDirectory(prefix="mlscaffold-") as temporary:
            index = str(Path(temporary, "index"))
            self.git("read-tree", tree, GIT_INDEX_FILE=index)
            given = "".join(f"{entry}\0" for entry in entries)
            self.git("update-index", "-z", "--index-info", given=given, GIT_INDEX_FILE=index)
            return self.git("write-tree", GIT_INDEX_FILE=index)

    def graft(self, prefix: str, tree: str) -> str:
        """The whole repository's tree, with the project's replaced."""
        if not prefix:
            return tree
        with tempfile.TemporaryDirectory(prefix="mlscaffold-") as temporary:
            index = str(Path(temporary, "index"))
            self.git("read-tree", "HEAD", GIT_INDEX_FILE=index)
            self.git("rm", "-r", "--cached", "--quiet", "--", prefix, GIT_INDEX_FILE=index)
            self.git("read-tree", f"--prefix={prefix}", tree, GIT_INDEX_FILE=index)
            return self.git("write-tree", GIT_INDEX_FILE=index)

    def merge(self, base: str, ours: str, theirs: str, label: str) -> Merged:
        """Merge three trees; a file that one side removed and the other changed is removed.

        `label` names their side in conflict markers.
        """
        first = self._commit(base)
        branches = (self._commit(ours, first), self._commit(theirs, first))
        done = git(self.top, *SETTINGS, "merge-tree", "--write-tree", "-z", "--no-messages", *branches)
        if done.returncode > 1 or not done.stdout:
            raise ToolError(f"git could not merge: {done.stderr.strip()}.")
        tree, *entries = done.stdout.rstrip("\0").split("\0")
        return self._settle(Merged(tree, _conflicts(entries)), label)

    def _settle(self, merged: Merged, label: str) -> Merged:
        """Decide what git leaves open: files that one side removed, and changes of neighbouring lines."""
        for path, sides in list(merged.conflicts.items()):
            entry = f"0 {'0' * 40}\t{path}"
            if sides.keys() == {BASE, OURS}:
                merged.dropped.append(path)
            elif sides.keys() == {BASE, THEIRS}:
                merged.kept_deleted.append(path)
            elif sides.keys() == {BASE, OURS, THEIRS} and (content := self._merge_file(sides, label)):
                text, conflict = content
                blob = self.git("hash-object", "-w", "--stdin", given=text)
                entry = f"{sides[OURS][0]} {blob}\t{path}"
                if conflict:
                    merged.tree = self.edit(merged.tree, [entry])
                    continue
            else:
                continue
            merged.tree = self.edit(merged.tree, [entry])
            del merged.conflicts[path]
        return merged

    def _merge_file(self, sides: dict[int, Side], label: str) -> tuple[str, bool] | None:
        """Merge line by line; `None` for what is no text file."""
        if any(mode not in ("100644", "100755") for mode, _ in sides.values()):
            return None
        base, ours, theirs = (sides[stage][1] for stage in (BASE, OURS, THEIRS))
        hunks = self._hunks(base, ours), self._hunks(base, theirs)
        if None in hunks:
            return None
        lines, conflict = merge_lines(self._lines(base), hunks[0] or [], hunks[1] or [], label)
        return "".join(lines), conflict

    def _hunks(self, before: str, after: str) -> list[Hunk] | None:
        """What changed between two blobs; `None` when they are binary."""
        difference = self.git(
            "diff", "--no-ext-diff", "--no-color", "--unified=0", "--histogram", before, after
        )
        if re.search(r"^Binary files ", difference, re.MULTILINE):
            return None
        lines = self._lines(after)
        return [_hunk(found, lines) for found in HUNK.finditer(difference)]

    def _lines(self, blob: str) -> list[str]:
        return LINE.findall(git(self.top, "cat-file", "blob", blob).stdout)

    def _commit(self, tree: str, *parents: str) -> str:
        words = [word for parent in parents for word in ("-p", parent)]
        return self.git("commit-tree", tree, *words, "-m", "mlscaffold", **NOBODY)

    def _git_dir(self) -> str:
        return self.git("rev-parse", "--absolute-git-dir")


def _hunk(found: re.Match[str], after: list[str]) -> Hunk:
    """Read `@@ -3,2 +3 @@`; git counts from 1, and names the line before where a side has none."""
    old, old_count, new, new_count = (int(1 if part is None else part) for part in found.groups())
    start, first = old - (old_count > 0), new - (new_count > 0)
    return Hunk(start, start + old_count, tuple(after[first : first + new_count]))


def _conflicts(entries: list[str]) -> Conflicts:
    found: Conflicts = {}
    for mode, object_name, stage, path in _entries(entries):
        found.setdefault(path, {})[stage] = (mode, object_name)
    return found


def _entries(entries: list[str]) -> Iterator[tuple[str, str, int, str]]:
    for entry in filter(None, entries):
        about, path = entry.split("\t", 1)
        mode, object_name, stage = about.split()
        yield mode, object_name, int(stage), path
