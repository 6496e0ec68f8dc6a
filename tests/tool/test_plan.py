"""Updates and changed answers, between releases that truly differ, for many projects and many edits."""

import difflib
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import pytest

from mlscaffold.catalogue.questions import Answer, Answers, read
from mlscaffold.releases.fetch import Templates
from mlscaffold.releases.own import SOURCE
from mlscaffold.rendering.render import render
from mlscaffold.rendering.target import write
from mlscaffold.update.apply import apply
from mlscaffold.update.merge import Store
from mlscaffold.update.plan import Plan, plan_change, plan_update
from tests.conftest import Say
from tests.support.edits import CarefulEditor, Editor
from tests.support.projects import SOAK, Project, times
from tests.support.releases import ROOT, commit, copy_repository, git, make_release

pytestmark = pytest.mark.long
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
    """The tracked releases and, as one more, the templates as they are now, but for two files' names."""

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
    """Every other choice that can stand of each question: what to type, and to go back, the new answers."""
    catalogue = read(world.templates.root(SOURCE, NEW))
    for question in catalogue.questions:
        now = catalogue.resolve(answers)[question.name]
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
            if value != now and not catalogue.objections({**answers, question.name: value}):
                yield (
                    [f"{question.name}={value}"],
                    [f"{question.name}={now}"],
                    {**answers, question.name: value},
                )


Reckoned = Counter[str]  # edits by where they are after an update


@pytest.mark.soak
def test_no_edit_is_lost_and_those_beside_the_templates_changes_never_conflict(
    world: World, tmp_path: Path, say: Say
) -> None:
    chance, total = random.Random(3), Reckoned()
    for number, answers in zip(range(times(20, 300)), world.combinations(OLD, seed=3), strict=False):
        change = Change(world, answers, OLD, answers, NEW)
        editor = change.edited(tmp_path / str(number), Editor(tmp_path / str(number), chance, change.going))
        plan = plan_update(editor.folder, None, world.templates)
        total += change.reckon(editor, plan, apply(plan), tmp_path / f"{number}-base")
    say(f"edits after an update from {OLD}: {dict(total)}")
    assert min(total[where] for where in PLACES) > 0


@pytest.mark.soak
def test_no_edit_is_lost_when_an_answer_changes(world: World, tmp_path: Path, say: Say) -> None:
    chance, total = random.Random(4), Reckoned()
    for number, answers in zip(range(times(5, 100)), world.combinations(NEW, seed=4), strict=False):
        words, _, changed = chance.choice(list(single_changes(world, answers)))
        change = Change(world, answers, NEW, changed, NEW)
        editor = change.edited(tmp_path / str(number), Editor(tmp_path / str(number), chance, change.going))
        plan = plan_change(editor.folder, words, world.templates)
        total += change.reckon(editor, plan, apply(plan), tmp_path / f"{number}-base")
    say(f"edits after a changed answer: {dict(total)}")


@pytest.mark.soak
def test_the_tests_of_an_edited_project_pass_after_an_update_without_conflicts(
    world: World, tmp_path: Path, say: Say
) -> None:
    chance, wanted, done = random.Random(5), times(1, 12), 0
    every = world.combinations(OLD, seed=5)
    quick = (answers for answers in every if SOAK or answers["strategy"] == "single")
    for number, answers in enumerate(quick):
        change = Change(world, answers, OLD, answers, NEW)
        folder = tmp_path / str(number)
        editor = change.edited(folder, CarefulEditor(folder, chance, change.going))
        plan = plan_update(folder, None, world.templates)
        change.reckon(editor, plan, apply(plan), tmp_path / f"{number}-base")
        if not plan.conflicts:
            assert " passed" in Project(folder, "").run_fork("-m", "pytest", "-q")
            done += 1
        if done == wanted:
            break
    say(f"edited projects whose tests pass after an update: {done}, of {number + 1}; the others conflict")


PLACES = RESULT, CONFLICT, PATCH = "in the result", "in a conflict", "in the patch"


@dataclass(frozen=True)
class Change:
    """A project's way from some answers and a release to others."""

    world: World
    answers: Answers
    tag: str
    new_answers: Answers
    new_tag: str

    @cached_property
    def before(self) -> Content:
        return self.world.files(self.answers, self.tag)

    @cached_property
    def after(self) -> Content:
        return self.world.files(self.new_answers, self.new_tag)

    @property
    def going(self) -> list[str]:
        """The files that the template has no more, or has under another name."""
        return sorted(self.before.keys() - self.after.keys())

    def edited(self, folder: Path, editor: Editor) -> Editor:
        """Make the project, and edit it."""
        self.world.project(folder, self.answers, self.tag)
        editor.edit_some()
        return editor

    def reckon(self, editor: Editor, plan: Plan, patch: Path | None, base: Path) -> Reckoned:
        """Find every edit after it; those where the template changed nothing are in the result."""
        total = Reckoned()
        for mark, (name, line) in editor.places.items():
            where = found(editor.folder, mark, plan, patch)
            total[where] += 1
            if line is not None and outside(self.before, self.after, name, line):
                assert where == RESULT, (self.answers, mark, name)
        if patch:
            self.world.project(base, self.answers, self.tag)
            check_patch(patch, plan, base, editor.folder)
        return total


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
            return CONFLICT if conflict else RESULT
    assert patch is not None, f"{mark} is nowhere"
    assert pattern.search(patch.read_text()), f"{mark} is nowhere"
    return PATCH


def outside(before: Content, after: Content, name: str, line: int) -> bool:
    """Whether the template left a line of a file as it was."""
    if name not in before or name not in after:
        return False
    old, new = (content[name].decode().splitlines() for content in (before, after))
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return any(block.a <= line < block.a + block.size for block in blocks)


def check_patch(patch: Path, plan: Plan, base: Path, edited: Path) -> None:
    """A patch makes of the files as the template had them those that were dropped, and touches no other."""
    git(base, "apply", str(patch))
    git(base, "add", "--all")
    touched = git(base, "diff", "--cached", "--name-only", "--no-renames", "HEAD").splitlines()
    assert sorted(touched) == sorted(plan.dropped)
    for name in plan.dropped:
        assert (base / name).read_text().strip() == git(edited, "show", f"HEAD:./{name}")
