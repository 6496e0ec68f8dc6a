"""Edits to a project such as people make, at random but by a seed; each carries a mark of its own."""

import ast
import io
import random
import tokenize
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

from tests.support.releases import commit, git

MOST = 6  # edits of a project


class Editor:
    """Changes, adds and moves lines, and renames and deletes files, whatever this does to the project."""

    def __init__(self, folder: Path, chance: random.Random, likely: Collection[str] = ()) -> None:
        self.folder, self.chance = folder, chance
        self.likely = likely  # files to edit more often than others
        self.places: dict[str, tuple[str, int | None]] = {}  # mark: its file, and its line in the base
        self.actions = [self.change, self.change, self.insert, self.insert, self.move, self.rename]

    def edit_some(self) -> None:
        """Edit the project a few times, and commit that."""
        for number in range(self.chance.randint(1, MOST)):
            self.edit(f"edit-{number}")
        commit(self.folder)

    def edit(self, mark: str) -> None:
        files = [name for name in git(self.folder, "ls-files").splitlines() if name.endswith((".py", ".md"))]
        files = [name for name in files if (self.folder / name).stat().st_size]
        likely = [name for name in files if name in self.likely]
        name = self.chance.choice(likely if likely and self.chance.random() < 0.2 else files)
        self.chance.choice(self.actions)(name, mark)

    def change(self, name: str, mark: str) -> None:
        """Add a comment to a line."""
        lines = self.lines(name)
        places = [number for number in self.ends(name) if "edit-" not in lines[number]]
        if not places:
            return self.insert(name, mark)
        place = self.chance.choice(places)
        moved = any(file == name for file, _ in self.places.values())  # then its number is not the base's
        self.write(name, [*lines[:place], f"{lines[place][:-1]}  # {mark}\n", *lines[place + 1 :]])
        self.places[mark] = (name, None if moved else place)
        return None

    def ends(self, name: str) -> list[int]:
        """The lines that can be changed."""
        lines = enumerate(self.lines(name))
        return [number for number, line in lines if line.strip() and '"""' not in line]

    def insert(self, name: str, mark: str) -> None:
        lines = self.lines(name)
        self.add(name, self.chance.randrange(len(lines) + 1), f"# {mark}\n", mark)

    def move(self, name: str, mark: str) -> None:
        """Move the last function of a module to its top, with a comment in it."""
        lines = self.lines(name)
        starts = [number for number, line in enumerate(lines) if line.startswith("def ")]
        if not starts:
            return self.insert(name, mark)
        body = [lines[starts[-1]], f"    # {mark}\n", *lines[starts[-1] + 1 :]]
        self.write(name, [*body, "\n\n", *lines[: starts[-1]]])
        self.places[mark] = (name, None)
        return None

    def rename(self, name: str, mark: str) -> None:
        """Rename a file, and add a line to it; or delete it."""
        if self.chance.random() < 0.5:
            git(self.folder, "rm", "--quiet", "--force", "--", name)
            self.places = {m: place for m, place in self.places.items() if place[0] != name}
            return
        new = name.replace(".", f"_{mark.replace('-', '')}.")
        git(self.folder, "mv", "--", name, new)
        self.places |= {m: (new, None) for m, place in self.places.items() if place[0] == name}
        self.add(new, len(self.lines(new)), f"# {mark}\n", mark)

    def add(self, name: str, place: int, text: str, mark: str) -> None:
        lines = self.lines(name)
        self.write(name, [*lines[:place], text, *lines[place:]])
        self.places[mark] = (name, None)

    def lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines(keepends=True)

    def write(self, name: str, lines: list[str]) -> None:
        (self.folder / name).write_text("".join(lines))


class CarefulEditor(Editor):
    """Makes only edits after which the project runs as before, and its other tests pass."""

    def __init__(self, folder: Path, chance: random.Random, likely: Collection[str] = ()) -> None:
        super().__init__(folder, chance, likely)
        self.actions = [self.change, self.insert, self.append, self.move, self.rename]

    def ends(self, name: str) -> list[int]:
        """The ends of statements: a comment there is in no text, and splits nothing."""
        if not name.endswith(".py"):
            return []
        tokens = tokenize.generate_tokens(io.StringIO("".join(self.lines(name))).readline)
        return [token.start[0] - 1 for token in tokens if token.type == tokenize.NEWLINE]

    def insert(self, name: str, mark: str) -> None:
        """Add a comment before a statement."""
        if not name.endswith(".py"):
            return super().insert(name, mark)
        lines = self.lines(name)
        nodes = [node for node in ast.walk(ast.parse("".join(lines))) if isinstance(node, ast.stmt)]
        first = [node for node in nodes if not lines[node.lineno - 1][: node.col_offset].strip()]
        if not first:
            return self.append(name, mark)
        node = self.chance.choice(first)
        return self.add(name, node.lineno - 1, f"{' ' * node.col_offset}# {mark}\n", mark)

    def append(self, name: str, mark: str) -> None:
        """Add a function, or a line of text, to the end."""
        function = f'\n\ndef {mark.replace("-", "_")}() -> None:\n    """Do nothing: {mark}."""\n'
        text = function if name.endswith(".py") else f"\n{mark}\n"
        self.add(name, len(self.lines(name)), text, mark)

    def move(self, name: str, mark: str) -> None:
        """Let two functions that follow each other change places, with a comment in one."""
        lines = self.lines(name)
        body = ast.parse("".join(lines)).body if name.endswith(".py") else []
        pairs = [pair for pair in pairwise(body) if all(map(is_plain, pair))]
        if not pairs:
            return self.insert(name, mark)
        (a, b), (c, d) = ((node.lineno - 1, node.end_lineno) for node in self.chance.choice(pairs))
        marked = [*lines[c:d], f"    # {mark}\n"]
        self.write(name, [*lines[:a], *marked, *lines[b:c], *lines[a:b], *lines[d:]])
        self.places[mark] = (name, None)
        return None

    def rename(self, name: str, mark: str) -> None:
        """Rename or delete what no module imports."""
        if name.startswith("tests/test_") or name.endswith(".md"):
            super().rename(name, mark)
        else:
            self.append(name, mark)


def is_plain(node: ast.stmt) -> bool:
    """Whether a statement is a function that nothing at the level of the module has to follow."""
    return isinstance(node, ast.FunctionDef) and not node.decorator_list
