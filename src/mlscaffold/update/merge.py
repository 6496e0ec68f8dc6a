"""Merge what a template changed into a project, in git's objects: no file is touched until it is applied.

Git's own three-way merge (`git merge-tree`, strategy ort) follows files that either side renamed, and reports
every edit that it cannot keep.
"""

import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mlscaffold.errors import ToolError
from mlscaffold.rendering.render import File
from mlscaffold.rendering.target import write
from mlscaffold.system.git import make_bare, own_git, reason, run_git, run_own_git
from mlscaffold.update.layout import meaning
from mlscaffold.update.lines import Hunk, Result, merge_lines

# Rendered files are stored alike on every machine, whatever its user has set and whatever is checked out.
SETTINGS = [
    *(("core.autocrlf", "false"), ("core.fileMode", "true")),
    *(("core.sparseCheckout", "false"), ("core.splitIndex", "false"), ("core.untrackedCache", "false")),
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
    relaid: list[str] = field(default_factory=list)  # the user's layout gave way to the template's


class Store:
    """The objects of a repository, in a repository of our own beside it.

    So nobody's settings, attributes and programs have a say in what a merge or a difference is.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        words = [
            "--show-object-format",
            "--absolute-git-dir",
            "--path-format=absolute",
            "--git-path",
            "objects",
        ]
        object_format, self.git_dir, objects = run_git(top, "rev-parse", *words).splitlines()
        self.width = 64 if object_format == "sha256" else 40
        self.variables = {"GIT_OBJECT_DIRECTORY": objects}
        self.own = Path(tempfile.mkdtemp(prefix="mlscaffold-"))
        weakref.finalize(self, shutil.rmtree, self.own, ignore_errors=True)
        make_bare(self.own, object_format)

    def git(self, *arguments: str, given: str = "", **variables: str) -> str:
        return run_own_git(self.own, *arguments, given=given, **self.variables, **variables)

    def output(self, *arguments: str) -> str:
        """What git prints, with every line end."""
        return own_git(self.own, *arguments, **self.variables).stdout

    def tree_of(self, files: Mapping[str, File]) -> str:
        """Store rendered files as a tree, as `git add` would in this repository."""
        with tempfile.TemporaryDirectory(prefix="mlscaffold-") as temporary:
            place = Path(temporary, "files")
            place.mkdir()
            write(files, place)
            run = partial(
                run_git,
                place,
                settings=SETTINGS,
                GIT_DIR=self.git_dir,
                GIT_WORK_TREE=str(place),
                GIT_INDEX_FILE=str(Path(temporary, "index")),
            )
            run("add", "--all", "--force", ".")
            return run("write-tree")

    def subtree(self, prefix: str) -> str:
        """The committed tree of the project."""
        return run_git(self.top, "rev-parse", "--verify", f"HEAD:{prefix.rstrip('/')}")

    def text(self, tree: str, path: str) -> str:
        """A file of a tree; nothing, when there is none."""
        return self.output("cat-file", "blob", f"{tree}:{path}")

    def changed(self, before: str, after: str, *paths: str) -> dict[str, str]:
        """Files that differ between two trees, with git's letter for how: all, or those below `paths`."""
        words = ["diff-tree", "-r", "-z", "--no-renames", "--name-status", before, after, "--", *paths]
        found = self.git(*words).split("\0")
        return dict(zip(found[1::2], found[::2], strict=False))

    def entry(self, tree: str, path: str) -> str:
        """A file of a tree, as `edit` takes it; without such a file, what removes it."""
        return self.git("ls-tree", "-z", tree, "--", path).rstrip("\0") or self.no_entry(path)

    def no_entry(self, path: str) -> str:
        """What removes a file, as `edit` takes it."""
        return f"0 {'0' * self.width}\t{path}"

    def edit(self, tree: str, entries: list[str]) -> str:
        """A tree with some entries changed."""
        with tempfile.TemporaryDirectory(prefix="mlscaffold-") as temporary:
            index = str(Path(temporary, "index"))
            self.git("read-tree", tree, GIT_INDEX_FILE=index)
            given = "".join(f"{entry}\0" for entry in entries)
            self.git("update-index", "-z", "--index-info", given=given, GIT_INDEX_FILE=index)
            return self.git("write-tree", GIT_INDEX_FILE=index)

    def graft(self, prefix: str, tree: str) -> str:
        """The whole repository's tree, with the project's replaced. No index is asked: it may be sparse."""
        above, _, name = prefix.rstrip("/").rpartition("/")
        if not name:
            return tree
        entries = self.git("ls-tree", "-z", self.subtree(above)).rstrip("\0").split("\0")
        given = [entry for entry in entries if entry.split("\t", 1)[1] != name]
        given.append(f"040000 tree {tree}\t{name}")
        made = self.git("mktree", "-z", "--missing", given="".join(f"{entry}\0" for entry in given))
        return self.graft(above, made)

    def merge(self, base: str, ours: str, theirs: str, label: str) -> Merged:
        """Merge three trees; a file that one side removed and the other changed is removed.

        `label` names their side in conflict markers.
        """
        first = self._commit(base)
        branches = (self._commit(ours, first), self._commit(theirs, first))
        words = ("merge-tree", "--write-tree", "-z", "--no-messages", *branches)
        done = own_git(self.own, *words, **self.variables)
        if done.returncode > 1 or not done.stdout:
            raise ToolError(f"`git merge-tree` failed: {reason(done)}")
        tree, *entries = done.stdout.rstrip("\0").split("\0")
        return self._settle(Merged(tree, _conflicts(entries)), label)

    def _settle(self, merged: Merged, label: str) -> Merged:
        """Decide what git leaves open: files that one side removed, and changes of neighbouring lines."""
        for path, sides in list(merged.conflicts.items()):
            entry = self.no_entry(path)
            if sides.keys() == {BASE, OURS}:
                merged.dropped.append(path)
            elif sides.keys() == {BASE, THEIRS}:
                merged.kept_deleted.append(path)
            elif sides.keys() == {BASE, OURS, THEIRS} and (result := self._merge_file(path, sides, label)):
                blob = self.git("hash-object", "-w", "--stdin", given="".join(result.lines))
                entry = f"{sides[OURS][0]} {blob}\t{path}"
                merged.relaid += [path] if result.relaid else []
                if result.conflict:
                    merged.tree = self.edit(merged.tree, [entry])
                    continue
            else:
                continue
            merged.tree = self.edit(merged.tree, [entry])
            del merged.conflicts[path]
        return merged

    def _merge_file(self, path: str, sides: dict[int, Side], label: str) -> Result | None:
        """Merge line by line; `None` for what is no text file."""
        if any(mode not in ("100644", "100755") for mode, _ in sides.values()):
            return None
        base, ours, theirs = (sides[stage][1] for stage in (BASE, OURS, THEIRS))
        hunks = self._hunks(base, ours), self._hunks(base, theirs)
        if None in hunks:
            return None
        lines, changes = self._lines(base), (hunks[0] or [], hunks[1] or [])
        plain = merge_lines(lines, *changes, label)
        if not plain.conflict or not path.endswith(".py") or not (before := meaning("".join(lines))):
            return plain
        if meaning("".join(self._lines(ours))) == before:
            whole = Result(self._lines(theirs), relaid=True)
        else:
            whole = plain
        result = merge_lines(lines, *changes, label, lambda found: meaning("".join(found)) == before)
        return whole if result.conflict or not meaning("".join(result.lines)) else result

    def _hunks(self, before: str, after: str) -> list[Hunk] | None:
        """What changed between two blobs; `None` when they are binary."""
        difference = self.git("diff", "--unified=0", "--histogram", before, after)
        if re.search(r"^Binary files ", difference, re.MULTILINE):
            return None
        lines = self._lines(after)
        return [_hunk(found, lines) for found in HUNK.finditer(difference)]

    def _lines(self, blob: str) -> list[str]:
        return LINE.findall(self.output("cat-file", "blob", blob))

    def _commit(self, tree: str, *parents: str) -> str:
        words = [word for parent in parents for word in ("-p", parent)]
        return self.git("commit-tree", tree, *words, "-m", "mlscaffold", **NOBODY)


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
