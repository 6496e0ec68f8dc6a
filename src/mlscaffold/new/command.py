"""Make a new project: gather its answers, render it, put it into place."""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlscaffold.catalogue.answers import Given, gather
from mlscaffold.catalogue.questions import NAME, Answer, Answers, Catalogue, read
from mlscaffold.catalogue.words import recreate
from mlscaffold.errors import TargetError
from mlscaffold.new import installation
from mlscaffold.new.repository import start_repository
from mlscaffold.releases.own import template_root
from mlscaffold.rendering import target
from mlscaffold.rendering.render import File, message, render
from mlscaffold.screen import console, in_a_line, shown
from mlscaffold.system.terminal import can_ask, confirm

if TYPE_CHECKING:
    from mlscaffold.kits.kit import Kit


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the command line asked for, apart from answers."""

    dest: Path | None
    answers_file: Path | None = None
    kit: str | None = None
    yes: bool = False
    dry_run: bool = False
    as_json: bool = False
    git: bool = True
    install: bool = False
    train: bool = False


@dataclass(frozen=True)
class Made:
    path: Path
    answers: dict[str, Answer]
    files: dict[str, File]
    command: str  # recreates the project
    note: str  # what git left to do
    read_first: list[str]  # files of a kit that programs obey by name


def new(wish: Wish, flags: Answers) -> None:
    """Make the project that was asked for, and say what comes next."""
    if wish.kit is None:
        _new(wish, flags, None)
        return
    from mlscaffold.kits.find import find_kit  # a kit takes git, and more modules
    from mlscaffold.releases.fetch import Templates

    with Templates() as templates:
        kit = find_kit(wish.kit, read(template_root()), templates)
        kit.require_this_version()
        _new(wish, flags, kit)


def _new(wish: Wish, flags: Answers, kit: "Kit | None") -> None:
    catalogue = read(template_root())
    if kit:
        catalogue = catalogue.with_defaults(kit.own_defaults(catalogue))
    given = gather(catalogue, flags, wish.answers_file, wish.dest)
    if kit:
        kit.refuse_changes(given.answers)
        given.add(kit.locks, lambda name: f"the kit {kit.name}: {name}")
    if wish.dest is not None:
        target.check(wish.dest)
    given.check_each()
    if _asks(wish):
        _ask(given, wish.dest, kit.locks if kit else {})
    given.check()
    made = make(catalogue, catalogue.resolve(given.answers), wish, kit)
    _report(made, wish)
    if wish.dry_run:
        return
    if wish.install or wish.train:
        installation.install(made.path)
    if wish.train:
        installation.train(made.path, str(made.answers["package"]))


def _asks(wish: Wish) -> bool:
    return not wish.yes and not wish.as_json and can_ask()


def _ask(given: Given, dest: Path | None, fixed: Answers) -> None:
    from mlscaffold.catalogue.prompts import ask  # takes 100 ms to import

    def refuse(name: str, answer: Answer) -> str:
        if dest is not None or name != NAME:
            return ""
        try:
            target.check(Path(str(answer)))
        except TargetError as error:
            return str(error)
        return ""

    ask(given, refuse, review="Make this project?", fixed=list(fixed))


def make(catalogue: Catalogue, answers: dict[str, Answer], wish: Wish, kit: "Kit | None" = None) -> Made:
    """Put the project for these answers, which no rule refuses, into place; raises `TargetError`."""
    path = wish.dest or Path(str(answers[NAME]))
    files = render(answers)
    read_first: list[str] = []
    if kit:
        from mlscaffold.kits.obeyed import obeyed

        overlay = kit.overlay(answers, files)
        read_first = obeyed(files, overlay, kit.answers_file)
        _announce(kit.name, read_first, ask=not wish.dry_run and _asks(wish))
        files |= overlay
    command = recreate(catalogue, answers, path, wish.kit)
    note = ""
    if wish.dry_run:
        target.check(path)
    else:
        with target.staged(path) as staging:
            target.write(files, staging)
            note = start_repository(staging, path) if wish.git else ""
    return Made(path, answers, files, command, note, read_first)


def _announce(kit: str, names: list[str], *, ask: bool) -> None:
    """Say which files of a kit programs obey, before any is written; on a terminal, ask whether to go on."""
    if not names:
        return
    print(f"The kit {kit} brings files that programs obey by name: {', '.join(names)}.", file=sys.stderr)
    if ask:
        confirm("Do you trust them?", "Nothing was written.")


def _report(made: Made, wish: Wish) -> None:
    if wish.as_json:
        print(json.dumps(_as_json(made, dry_run=wish.dry_run), indent=2))
    elif wish.dry_run:
        _print_tree(made)
    else:
        print(f"Made {made.path}: {_total(made)}.")
        print("\n".join(_overview(made.files, f"src/{made.answers['package']}/")))
        print(f"To make it again: {made.command}")
        print(f"\n{next_steps(made)}", end="")
    if made.note:
        print(f"Note: {in_a_line(made.note)}", file=sys.stderr)


def next_steps(made: Made) -> str:
    """What to type next, for who is where the project's path leads from."""
    return message(made.answers, shlex.quote(str(made.path)), uv=installation.has_uv())


def _as_json(made: Made, *, dry_run: bool) -> dict[str, object]:
    return {
        "path": str(made.path.absolute()),
        "written": not dry_run,
        "answers": made.answers,
        "files": {name: len(file.content) for name, file in made.files.items()},
        "command": made.command,
        "read_first": made.read_first,
        "note": made.note,
    }


def _print_tree(made: Made) -> None:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(shown(f"{made.path}/")))
    branches = {"": tree}
    for name, file in made.files.items():
        folder = ""
        for part in name.split("/")[:-1]:
            above, folder = folder, f"{folder}{part}/"
            if folder not in branches:
                branches[folder] = branches[above].add(Text(shown(f"{part}/"), style="bold"))
        branches[folder].add(
            Text.assemble(shown(name.split("/")[-1]), (f"  {len(file.content):,} bytes", "dim"))
        )
    console().print(tree)
    print(f"\n{_total(made)}. Nothing was written.")


def _overview(files: Iterable[str], package: str) -> list[str]:
    """Count files, a line for each folder at the top; the package is one of these."""
    notes = {
        "./": "README.md says how to use it",
        package: "task/ is yours to change",
    }
    folders = Counter(
        package if name.startswith(package) else f"{name.partition('/')[0]}/" if "/" in name else "./"
        for name in files
    )
    width = max(map(len, folders))
    return [
        f"  {folder:{width}}  {folders[folder]:2} file{'s' if folders[folder] > 1 else ' '}"
        f"{'  ' + notes[folder] if folder in notes else ''}".rstrip()
        for folder in sorted(folders)
    ]


def _total(made: Made) -> str:
    return f"{len(made.files)} files, {sum(len(file.content) for file in made.files.values()):,} bytes"
