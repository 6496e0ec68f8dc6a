"""Apply a plan to the working tree and the index; what has no place there goes to patches."""

import os
from contextlib import suppress
from itertools import count
from pathlib import Path

from mlscaffold.errors import ProjectError
from mlscaffold.system.git import git, run_git
from mlscaffold.update.plan import Plan

PATCH = "dropped-edits.patch"
TASK_PATCH = "task-changes.patch"


def apply(plan: Plan) -> Path | None:
    """Change the working tree and the index, nothing else; return the patch with edits that were dropped."""
    project, store = plan.project, plan.store
    _refuse_to_overwrite(plan)
    git(project.top, "update-index", "-q", "--refresh")  # a file that was only touched is as committed
    run_git(project.top, "read-tree", "-m", "-u", "HEAD", store.graft(project.prefix, plan.merged.tree))
    lines = []
    for path, sides in plan.conflicts.items():
        lines.append(store.no_entry(f"{project.prefix}{path}"))
        lines += [f"{mode} {name} {stage}\t{project.prefix}{path}" for stage, (mode, name) in sides.items()]
    if lines:
        given = "".join(f"{line}\0" for line in lines)
        run_git(project.top, "update-index", "-z", "--index-info", given=given)
    return save_patch(plan, PATCH, plan.base, plan.before, plan.dropped)


def _refuse_to_overwrite(plan: Plan) -> None:
    added = [path for path, kind in plan.files.items() if kind == "added"]
    taken = [path for path in added if os.path.lexists(plan.project.folder / path)]
    if taken:
        raise ProjectError(
            f"{', '.join(taken)}: the template adds a file where git does not know yours.",
            "Commit, move or remove it.",
        )


def save_patch(plan: Plan, name: str, before: str, after: str, paths: list[str]) -> Path | None:
    """Write what differs between two trees as a patch, if there are such paths, to a file that nobody has.

    Its paths begin at the top of the repository, as `git apply` takes them in every folder of it.
    """
    if not paths:
        return None
    prefixes = (
        f"--{side}-prefix={letter}/{plan.project.prefix}" for side, letter in (("src", "a"), ("dst", "b"))
    )
    words = ["diff", "--binary", "--full-index", "--no-renames", *prefixes, before, after]
    patch = plan.store.output(*words, "--", *paths).encode(errors="surrogateescape")
    for number in count(1):
        path = plan.project.folder / name.replace(".", f"-{number}." if number > 1 else ".")
        with suppress(FileExistsError), path.open("xb") as file:
            file.write(patch)
            return path
    return None
