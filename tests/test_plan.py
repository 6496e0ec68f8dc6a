"""Updates and changed answers, between releases that truly differ, for many projects and many edits."""

import difflib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from mlscaffold.catalogue import Answer, Answers, read
from mlscaffold.merge import Store
from mlscaffold.plan import Plan, plan_change, plan_update
from mlscaffold.render import render
from mlscaffold.source import SOURCE
from mlscaffold.target import write
from mlscaffold.templates import Templates
from mlscaffold.update import apply
from tests.conftest import Say
from tests.projects import times
from tests.releases import ROOT, commit, copy_repository, git, make_release

OLD, NEW = "v0.1.0", "v99.0.0"
DESCRIPTIONS = [
    "Trains and evaluates an image classifier.",
    'Größe: 5 "x"',
    "Two\nlines # {{ no }}",
    "- yes: no",
]

Content = dict[str, bytes]


@dataclass(frozen=True)
class World:
    """The tracked releases and, as one more, the templates as they are now."""

    templates: Templates

    def files(self, answers: Answers, tag: str) -> Content:
        rendered = render(answers, self.templates.root(SOURCE, tag), tag)
        return {name: file.content for name, file in rendered.items()}

    def project(self, folder: Path, answers: Answers, tag: str) -> Path:
        """Make a project of a release, committed."""
        write(render(answers, self.templates.root(SOURCE, tag), tag), folder)
        git(folder, "init", "--quiet", "--initial-branch=main")
        commit(folder)
        return folder

    def fresh_tree(self, folder: Path, answers: Answers, tag: str) -> str:
        return Store(folder).tree_of(render(answers, self.templates.root(SOURCE, tag), tag))

    def combinations(self, tag: str, seed: int) -> Iterator[dict[str, Answer]]:
        """Different projects of a release, in a random order, without end."""
        chance = random.Random(seed)
        core = list(read(self.templates.root(SOURCE, tag)).combinations())
        every = list(product(core, DESCRIPTIONS, [f"net-{number}" for number in range(9)]))
        chance.shuffle(every)
        for answers, description, name in every:
            yield {**answers, "project": name, "description": description}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    checkout = copy_repository(tmp_path_factory.mktemp("world") / "checkout")
    bundle = checkout / "src/mlscaffold/releases.bundle"
    bundle.write_bytes((ROOT / "src/mlscaffold/releases.bundle").read_bytes())
    (checkout / "templates/project/NOTES.md").unlink()
    version = NEW.removeprefix("v")
    (checkout / "CHANGELOG.md").write_text(f"## [{version}]\n\nNow.\n", encoding="utf-8")
    commit(checkout)
    make_release(checkout, version)
    with Templates(bundle) as templates:
        yield World(templates)


@pytest.mark.soak
def test_an_untouched_project_becomes_what_the_new_release_makes(
    world: World, tmp_path: Path, say: Say
) -> None:
    count = times(20, 200)
    for number, answers in zip(range(count), world.combinations(OLD, seed=1), strict=False):
        folder = world.project(tmp_path / str(number), answers, OLD)
        plan = plan_update(folder, None, world.templates)
        assert not plan.conflicts
        assert plan.merged.tree == world.fresh_tree(folder, answers, NEW), answers
    say(f"untouched projects of {OLD} that equal a fresh render of today's: {count} of {count}")


@pytest.mark.soak
def test_one_changed_answer_gives_the_project_of_these_answers_and_back(
    world: World, tmp_path: Path, say: Say
) -> None:
    count, done = times(2, 50), 0
    for number, answers in zip(range(count), world.combinations(NEW, seed=2), strict=False):
        folder = world.project(tmp_path / str(number), answers, NEW)
        original = git(folder, "rev-parse", "HEAD^{tree}")
        for words, back, changed in single_changes(world, answers):
            plan = plan_change(folder, words, world.templates)
            assert plan.merged.tree == world.fresh_tree(folder, changed, NEW), (answers, words)
            apply(plan)
            commit(folder)
            again = plan_change(folder, back, world.templates)
            assert again.merged.tree == original, (answers, words, back)
            git(folder, "reset", "--quiet", "--hard", "HEAD~1")
            done += 1
    say(f"single changes of an answer that equal a fresh render, and back: {done} of {done}")


def single_changes(world: World, answers: Answers) -> Iterator[tuple[list[str], list[str], Answers]]:
    """Every other choice of every question: what to type, what to type to go back, the new answers."""
    for question in read(world.templates.root(SOURCE, NEW)).questions:
        now = answers.get(question.name, question.default)
        if question.multiselect:
            assert isinstance(now, list)
            for choice in map(str, (choice.value for choice in question.choices)):
                signs = "-+" if choice in now else "+-"
                value = question.check_type(
                    [n for n in now if n != choice] if choice in now else [*now, choice]
                )
                words = [[f"{question.name}{sign}={choice}"] for sign in signs]
                yield words[0], words[1], {**answers, question.name: value}
            continue
        for value in question.values:
            if value != now:
                yield (
                    [f"{question.name}={value}"],
                    [f"{question.name}={now}"],
                    {**answers, question.name: value},
                )


class Editor:
    """Edits a project as people do, at random but by a seed; each edit carries a mark of its own."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.places: dict[
            str, tuple[str, int | None]
        ] = {}  # of each mark: the file, and the line of the base

    def edit(self, number: int) -> None:
        files = [name for name in git(self.folder, "ls-files").splitlines() if name.endswith((".py", ".md"))]
        name = self.chance.choice([name for name in files if (self.folder / name).stat().st_size])
        action = self.chance.choice(
            [self.change, self.change, self.insert, self.insert, self.move, self.rename]
        )
        action(name, f"edit-{number}")

    def change(self, name: str, mark: str) -> None:
        """Add a comment to a line."""
        lines = self.lines(name)
        plain = [
            i for i, line in enumerate(lines) if line.strip() and '"""' not in line and "edit-" not in line
        ]
        if not plain:
            return self.insert(name, mark)
        place = self.chance.choice(plain)
        self.write(name, [*lines[:place], f"{lines[place][:-1]}  # {mark}\n", *lines[place + 1 :]])
        self.places[mark] = (name, None if self.touched(name) else place)
        return None

    def insert(self, name: str, mark: str) -> None:
        lines = self.lines(name)
        place = self.chance.randrange(len(lines) + 1)
        self.write(name, [*lines[:place], f"# {mark}\n", *lines[place:]])
        self.places[mark] = (name, None)

    def move(self, name: str, mark: str) -> None:
        """Move the last function of a module to its top, with a comment in it."""
        lines = self.lines(name)
        starts = [i for i, line in enumerate(lines) if line.startswith("def ")]
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
        self.write(new, [*self.lines(new), f"# {mark}\n"])
        self.places |= {m: (new, None) for m, place in self.places.items() if place[0] == name}
        self.places[mark] = (new, None)

    def lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines(keepends=True)

    def write(self, name: str, lines: list[str]) -> None:
        (self.folder / name).write_text("".join(lines))

    def touched(self, name: str) -> bool:
        """Whether an earlier edit has moved the lines of a file, so that their numbers are not the base's."""
        return any(file == name for file, _ in self.places.values())


@pytest.mark.soak
def test_no_edit_is_lost_and_those_beside_the_templates_changes_never_conflict(
    world: World, tmp_path: Path, say: Say
) -> None:
    chance = random.Random(3)
    total = {"in the result": 0, "in a conflict": 0, "in the patch": 0}
    for number, answers in zip(range(times(20, 300)), world.combinations(OLD, seed=3), strict=False):
        folder = world.project(tmp_path / str(number), answers, OLD)
        editor = Editor(folder, chance)
        for edit in range(chance.randint(1, 6)):
            editor.edit(edit)
        commit(folder)
        plan = plan_update(folder, None, world.templates)
        patch = apply(plan)
        before, after = world.files(answers, OLD), world.files(answers, NEW)
        for mark, (name, line) in editor.places.items():
            where = found(folder, mark, plan, patch)
            total[where] += 1
            if line is not None and outside(before, after, name, line):
                assert where == "in the result", (answers, mark, name)
        if patch:
            applies(patch, world, answers, tmp_path / f"{number}-base")
    say(f"edits after an update: {total}")


def found(folder: Path, mark: str, plan: Plan, patch: Path | None) -> str:
    """Where an edit is after an update; fails when it is nowhere."""
    pattern = re.compile(rf"{mark}\b")
    for name in git(folder, "ls-files").splitlines():
        path = folder / name
        text = path.read_text(errors="replace") if path.is_file() else ""
        if pattern.search(text):
            inside = re.findall(r"^<<<<<<< yours\n(.*?)^>>>>>>> ", text, re.MULTILINE | re.DOTALL)
            conflict = any(pattern.search(part) for part in inside)
            assert not conflict or name in plan.conflicts
            return "in a conflict" if conflict else "in the result"
    assert patch is not None, f"{mark} is nowhere"
    assert pattern.search(patch.read_text()), f"{mark} is nowhere"
    return "in the patch"


def outside(before: Content, after: Content, name: str, line: int) -> bool:
    """Whether the template left a line of a file as it was."""
    if name not in before or name not in after:
        return False
    old, new = (content[name].decode().splitlines() for content in (before, after))
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return any(block.a <= line < block.a + block.size for block in blocks)


def applies(patch: Path, world: World, answers: Answers, folder: Path) -> None:
    """A patch holds edits to the files as the template had them, and nothing but edits."""
    base = world.project(folder, answers, OLD)
    git(base, "apply", "--check", str(patch))
    assert "edit-" in patch.read_text()
