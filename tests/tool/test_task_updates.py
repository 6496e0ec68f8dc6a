"""The task folder belongs to the user: an update leaves what was edited there whole; `set` merges it."""

from pathlib import Path

import pytest

from mlscaffold.errors import AnswerError
from mlscaffold.releases.fetch import Templates
from mlscaffold.rendering.render import render
from mlscaffold.rendering.target import write
from mlscaffold.update.apply import apply
from mlscaffold.update.command import How, update
from mlscaffold.update.plan import plan_change, plan_update
from tests.support.releases import clean_settings, commit, copy_repository, git

TASK = "templates/tasks/image-classification"
MINE = "# mine\n"


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in clean_settings().items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template with two releases; the second changes files of the task and one beside it, and drops one."""
    checkout = copy_repository(tmp_path_factory.mktemp("template") / "checkout")
    git(checkout, "tag", "v0.1.0")
    for name in ("objective.py", "model.py", "images.py"):
        with (checkout / TASK / name).open("a") as file:
            file.write("\n\nNEWER = True\n")
    (checkout / "templates/project/src/{{ package }}/task/pictures.py.jinja").unlink()
    commit(checkout)
    git(checkout, "tag", "v0.2.0")
    return checkout


@pytest.fixture
def digits(template: Path, tmp_path: Path) -> Path:
    """A project of the first release whose objective was edited."""
    project = tmp_path / "digits"
    with Templates() as templates:
        root = templates.root(str(template), "v0.1.0")
        write(render({"project": "digits"}, root, "v0.1.0", str(template)), project)
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project)
    objective = project / "src/digits/task/objective.py"
    objective.write_text(MINE + objective.read_text())
    commit(project)
    return project


def test_an_update_leaves_an_edited_file_of_the_task_whole_and_saves_what_it_would_have_changed(
    digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (digits / "src/digits/task/objective.py").read_text()

    assert update(digits, None, How(yes=True))

    assert (digits / "src/digits/task/objective.py").read_text() == before
    assert (digits / "src/digits/task/model.py").read_text().endswith("NEWER = True\n")
    assert (digits / "src/digits/images.py").read_text().endswith("NEWER = True\n")
    said = capsys.readouterr().out
    assert "yours    src/digits/task/objective.py" in said
    assert "model.py  stays" not in said
    git(digits, "commit", "--quiet", "--message=Update")
    git(digits, "apply", "--3way", "task-changes.patch")
    taken = (digits / "src/digits/task/objective.py").read_text()
    assert "NEWER = True" in taken
    assert MINE in taken


def test_an_update_leaves_an_edited_file_of_the_task_that_the_template_has_no_more(digits: Path) -> None:
    pictures = digits / "src/digits/task/pictures.py"
    pictures.write_text(edited := MINE + pictures.read_text())
    commit(digits)

    assert update(digits, None, How(yes=True))

    assert pictures.read_text() == edited
    assert "pictures.py" in (digits / "task-changes.patch").read_text()
    assert not (digits / "dropped-edits.patch").exists()


def test_other_answers_are_merged_into_an_edited_task_as_the_user_asked_for_them(digits: Path) -> None:
    with Templates() as templates:
        plan = plan_change(digits, ["hpo=optuna"], templates)
        assert plan.task.kept == []
        apply(plan)
    assert (digits / "src/digits/task/search_space.py").exists()
    assert (digits / "src/digits/task/objective.py").read_text().startswith(MINE)


def test_what_nobody_edited_in_the_task_is_the_templates(digits: Path) -> None:
    git(digits, "revert", "--no-edit", "HEAD")
    with Templates() as templates:
        plan = plan_update(digits, None, templates)
        assert plan.task.kept == []
        apply(plan)
    assert not (digits / "task-changes.patch").exists()
    assert not (digits / "src/digits/task/pictures.py").exists()
    assert (digits / "src/digits/task/objective.py").read_text().endswith("NEWER = True\n")


def test_a_task_that_was_edited_is_not_exchanged_for_another(digits: Path) -> None:
    before = git(digits, "status", "--porcelain")
    with Templates() as templates, pytest.raises(AnswerError, match=r"objective\.py is yours by now"):
        plan_change(digits, ["task=tabular"], templates)
    assert git(digits, "status", "--porcelain") == before
