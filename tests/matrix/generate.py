"""Stage 1: our renderer and Copier write the same trees, and refuse the same answers."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import copier

from mlscaffold.catalogue.questions import Answers, plain
from mlscaffold.rendering.render import render
from tests.matrix.plan import Refused, named
from tests.support.command import mlscaffold
from tests.support.copier_worker import fast_copier
from tests.support.releases import copy_repository, git
from tests.template.test_render import by_copier, tree, without_source

Problems = dict[str, str]  # what is wrong, by the name of the combination


def clone_of_working_tree(folder: Path) -> Path:
    """A git clone of a commit of the working tree, which Copier copies from."""
    git(folder, "clone", "--quiet", str(copy_repository(folder / "repository")), "clone")
    return folder / "clone"


def compare_with_copier(clone: Path, answers: Iterable[Answers]) -> Problems:
    """Copy each through Copier's own questions, rules and renderer; the template is compiled once."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, fast_copier(clone) as copy:
        for each in answers:
            project = Path(folder) / "project"
            copy(each, project)
            found[named(each)] = difference(clone, each, project)
            shutil.rmtree(project)
    return {name: problem for name, problem in found.items() if problem}


def compare_with_run_copy(clone: Path, answers: Iterable[Answers]) -> Problems:
    """Copy each through Copier's public function."""
    found = {}
    for each in answers:
        with tempfile.TemporaryDirectory() as folder:
            by_copier(clone, each, Path(folder) / "project")
            found[named(each)] = difference(clone, each, Path(folder) / "project")
    return {name: problem for name, problem in found.items() if problem}


def difference(clone: Path, answers: Answers, project: Path) -> str:
    """The files that are not as Copier wrote them."""
    rendered = {name: (file.content, file.executable) for name, file in render(answers, clone).items()}
    ours, theirs = without_source(rendered), without_source(tree(project))
    files = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    return f"differs from Copier's: {', '.join(files)}" if files else ""


def taken_all_the_same(clone: Path, refused: Iterable[Refused]) -> Problems:
    """Say who takes answers that the catalogue rules out, or gives another reason than its own."""
    found = {}
    for each in refused:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            wrong = [_copier_takes(clone, each, folder), _command_takes(each, folder)]
            if not each.reason:
                wrong.append("our reader has no reason")
            if any(folder.iterdir()):
                wrong.append("something was written")
        found[named(each.answers)] = "; ".join(filter(None, wrong))
    return {name: problem for name, problem in found.items() if problem}


def _copier_takes(clone: Path, refused: Refused, folder: Path) -> str:
    """What `copier copy --data` does, through the function behind it."""
    try:
        copier.run_copy(
            str(clone),
            folder / "copier",
            data=dict(refused.answers),
            defaults=True,
            quiet=True,
            vcs_ref="HEAD",
        )
    except ValueError:
        return ""
    return "copier copy takes it"


def _command_takes(refused: Refused, folder: Path) -> str:
    flags = [
        f"--{name.replace('_', '-')}={plain(answer)}"
        for name, answer in refused.answers.items()
        if not isinstance(answer, bool)
    ]
    done = mlscaffold("new", "refused", "--yes", "--no-git", *flags, cwd=folder)
    if done.code != 2:
        return f"mlscaffold new ends with {done.code}"
    said = " ".join(done.err.split())
    return "" if f"--{refused.question.replace('_', '-')}" in said else f"mlscaffold new says: {said}"
