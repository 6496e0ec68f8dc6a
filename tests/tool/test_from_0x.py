"""A project of 0.7.2, edited in ten ways, meets the new shape: no edit is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlscaffold.releases.fetch import Templates
from mlscaffold.releases.own import BUNDLE, SOURCE
from mlscaffold.rendering.render import render
from mlscaffold.rendering.target import write
from mlscaffold.update.apply import PATCH, apply
from mlscaffold.update.plan import plan_update
from tests.conftest import Say
from tests.support.projects import FRAMEWORKS
from tests.support.releases import ROOT, clean_settings, commit, copy_files, git, make_release

OLD, NEW = "v0.7.2", "99.0.0"
# An edit of each kind: a mark, and where it is put; the start of a file stands for a line of its own there.
EDITS = {
    "width": ("src/digits/model.py", "dropout:", "wide: int = 1\n    dropout:"),
    "loss": ("src/digits/objective.py", "MONITOR =", "MINE = 1\nMONITOR ="),
    "data": ("src/digits/data.py", "HELD_OUT =", "MINE = 2\nHELD_OUT ="),
    "seed": ("src/digits/seeding.py", "def seed_for", "MINE = 3\n\n\ndef seed_for"),
    "engine": ("src/digits/engine.py", "class Task", "MINE = 4\n\n\nclass Task"),
    "train": ("src/digits/train.py", "def main", "MINE = 5\n\n\ndef main"),
    "settings": ("src/digits/config.py", "epochs:", "mine: int = 6\n    epochs:"),
    "readme": ("README.md", "# digits", "# digits\n\nMine: 7"),
    "tests": ("tests/test_model.py", "import pytest", "import pytest  # mine 8"),
    "own": ("src/digits/own.py", "", "MINE = 9\n"),
}


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in clean_settings().items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Templates]:
    """The releases of this package, and the present template as one more."""
    sources = copy_files(tmp_path_factory.mktemp("now") / "sources")
    (sources / "CHANGELOG.md").write_text(f"## [{NEW}]\n\nNow.\n", encoding="utf-8")
    git(sources, "init", "--quiet")
    commit(sources)
    make_release(sources, NEW)
    with Templates(sources / BUNDLE.relative_to(ROOT)) as opened:
        yield opened


def made(folder: Path, templates: Templates, tag: str, framework: str) -> Path:
    answers = {"project": "digits", "description": "Mine.", "framework": framework, "strategy": "ddp"}
    write(render(answers, templates.root(SOURCE, tag), tag), folder)
    return folder


def committed(folder: Path) -> Path:
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    return folder


def mark(new: str, old: str) -> str:
    """What an edit adds."""
    return new.removesuffix(old).removeprefix(old).strip() if old else new.strip()


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1) if old else new


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_untouched_project_of_0_7_becomes_what_new_gives(
    framework: str, templates: Templates, tmp_path: Path
) -> None:
    digits = committed(made(tmp_path / "digits", templates, OLD, framework))
    apply(plan_update(digits, None, templates))
    commit(digits)
    fresh = committed(made(tmp_path / "fresh", templates, f"v{NEW}", framework))
    assert git(digits, "diff", "--no-index", "--stat", str(digits / "src"), str(fresh / "src")) == ""
    assert git(digits, "rev-parse", "HEAD^{tree}") == git(fresh, "rev-parse", "HEAD^{tree}")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_edit_to_a_project_of_0_7_is_lost(
    framework: str, templates: Templates, tmp_path: Path, say: Say
) -> None:
    digits = committed(made(tmp_path / "digits", templates, OLD, framework))
    for name, old, new in EDITS.values():
        path = digits / name
        path.write_text(edited(path.read_text() if old else "", old, new))
    commit(digits)

    plan = plan_update(digits, None, templates)
    apply(plan)

    patch = (digits / PATCH).read_text() if plan.dropped else ""
    files = {path: path.read_text() for path in digits.rglob("*") if path.suffix in (".py", ".md")}
    say(f"A project of {OLD} ({framework}), edited in ten ways:")
    for kind, (name, old, new) in EDITS.items():
        mine = mark(new, old)
        where = [str(path.relative_to(digits)) for path, text in files.items() if mine in text]
        conflict = [place for place in where if place in plan.conflicts]
        became = f"in conflict in {conflict[0]}" if conflict else f"kept in {where[0]}" if where else ""
        became = became or (f"in {PATCH}" if mine in patch else "")
        say(f"  {kind:9} {name:28} {became or 'LOST'}")
        assert became, f"{kind}: {mine}"
