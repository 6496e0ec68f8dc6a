"""Bring a project forward: show what a newer release or other answers change, ask, and apply it.

The plan is what happens: no second computation could come to another result.
"""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from mlscaffold import screen
from mlscaffold.releases.fetch import Templates
from mlscaffold.releases.own import SOURCE
from mlscaffold.system.git import run_git
from mlscaffold.system.processes import undisturbed
from mlscaffold.system.terminal import confirm
from mlscaffold.update.apply import PATCH, TASK_PATCH, apply, save_patch
from mlscaffold.update.plan import PYPROJECT, Plan, plan_change, plan_update
from mlscaffold.update.requirements import INSTALL


@dataclass(frozen=True, kw_only=True)
class How:
    """What the command line says of how to go about it."""

    dry_run: bool = False
    show_diff: bool = False
    as_json: bool = False
    yes: bool = False


def update(folder: Path, to: str | None, how: How) -> bool:
    """Take a project to a newer release; tells whether nothing is left to a person."""
    with Templates() as templates:
        return _carry_out(plan_update(folder, to, templates), how)


def change(folder: Path, words: list[str], how: How) -> bool:
    """Change answers of a project and leave its release alone; tells whether nothing is left to a person."""
    with Templates() as templates:
        return _carry_out(plan_change(folder, words, templates), how)


def _carry_out(plan: Plan, how: How) -> bool:
    """Show a plan, ask on a terminal, apply it."""
    if how.as_json:
        print(json.dumps(plan.as_json() | {"applied": not how.dry_run and bool(plan.files)}, indent=2))
    else:
        show(plan)
    if how.show_diff:
        print_diff(plan)
    if how.dry_run or not (plan.files or plan.task.kept):
        return True
    if not how.yes and not how.as_json and sys.stdin.isatty() and sys.stdout.isatty():
        confirm("Apply this?")
    with undisturbed():
        patch = apply(plan)
        changes = save_patch(plan, TASK_PATCH, plan.task.base, plan.task.theirs, plan.task.kept)
    if not how.as_json:
        _tell(plan, patch, changes)
    return not plan.conflicts


def diff(folder: Path, to: str | None, words: list[str], *, as_json: bool) -> None:
    """Show what another release or other answers would change, and touch nothing."""
    with Templates() as templates:
        plan = plan_change(folder, words, templates) if words else plan_update(folder, to, templates)
        if as_json:
            print(json.dumps(plan.as_json() | {"applied": False}, indent=2))
        else:
            print_diff(plan)


def print_diff(plan: Plan) -> None:
    """Print a plan as git prints a change, in colour on a terminal."""
    text = plan.store.output("diff", "--color=never", plan.before, plan.merged.tree)
    if sys.stdout.isatty():  # files of others may hold what a terminal would obey
        screen.print_diff(text)
    else:  # byte for byte, for `git apply`
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(errors="surrogateescape"))


def show(plan: Plan) -> None:
    """Print what a plan does: releases, answers, files, and what needs a person."""
    line = screen.in_a_line
    for step in plan.steps:
        move = (
            step.layer.commit if step.commit == step.layer.commit else f"{step.layer.commit} -> {step.commit}"
        )
        foreign = "" if step.layer.source == SOURCE else f"  from {step.layer.source}"
        print(line(f"{step.layer.answers_file}: {move}{foreign}"))
        for name, (old, new) in step.changed.items():
            why = f"  (reset: {step.reset[name]})" if name in step.reset else ""
            print(f"  {line(f'{name}: {old} -> {new}{why}')}")
        for name in step.reset.keys() - step.changed.keys():
            print(f"  {line(f'{name}: {step.layer.answers.get(name)} is dropped: {step.reset[name]}')}")
    for name in plan.project.fixed:
        print(f"{line(name)}: made from a kit without a history; its files stay as they are")
    notes = dict.fromkeys(
        plan.merged.relaid, "  where you changed the layout alone, it is the template's again"
    )
    notes |= dict.fromkeys(plan.dropped, f"  you edited it; the edit goes to {PATCH}")
    notes |= dict.fromkeys(plan.conflicts, "  conflict: you and the template changed the same lines")
    for path, kind in plan.files.items():
        print(f"  {kind:8} {line(path)}{notes.get(path, '')}")
    for path in plan.task.kept:
        print(f"  yours    {line(path)}  stays as it is; what the template changed goes to {TASK_PATCH}")
    for path in plan.merged.kept_deleted:
        print(f"  deleted  {line(path)}  you deleted it; it stays deleted, though the template changed it")
    for sign, packages in (plan.packages or {}).items():
        for package in packages:
            print(f"  {sign:8} {line(package)} in {PYPROJECT}")
    if not plan.files and not plan.task.kept:
        print("Nothing to change.")


def _tell(plan: Plan, patch: Path | None, changes: Path | None) -> None:
    """Say how to go on, in commands that can be pasted."""
    if changes:
        print(f"What the template changed in your task is in {changes.name}. To take it, where it fits:")
        print(f"  git apply --3way {changes.name}")
    if patch:
        head = run_git(plan.project.top, "rev-parse", "--short", "HEAD")
        print(f"Your edits to files that are gone are in {patch.name}. To get such a file back as it was:")
        print(f"  git checkout {head} -- {screen.in_a_line(shlex.quote(plan.dropped[0]))}")
    if plan.conflicts:
        names = shlex.join(f"./{path}" if path[0] == "-" else path for path in sorted(plan.conflicts))
        print(f"Conflicts in {len(plan.conflicts)} file(s), between <<<<<<< and >>>>>>>. Edit them; then:")
        print(f"  git add {screen.in_a_line(names)} && git commit -m 'Update from mlscaffold'")
    else:
        print("Done, and staged. To keep it: git commit -m 'Update from mlscaffold'")
    if plan.merged.relaid:
        print("Where your layout gave way to the template's, run your formatter before you commit.")
    if plan.packages is None:
        print(f"Once {PYPROJECT} is settled, install again: {INSTALL}")
    elif any(plan.packages.values()):
        print(f"Other packages are needed than before. Install them: {INSTALL}")
    print("To go back: git restore --source=HEAD --staged --worktree -- .")
