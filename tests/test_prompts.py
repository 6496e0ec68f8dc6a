"""Questions on a real terminal, answered with keys."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest
import yaml

from mlscaffold.catalogue import read
from mlscaffold.render import ANSWERS_FILE
from tests.command import CTRL_C, CTRL_U, DOWN, terminal

ENTER = "\r"


def stored(project: Path) -> dict[str, object]:
    answers = yaml.safe_load((project / ANSWERS_FILE).read_text(encoding="utf-8"))
    assert isinstance(answers, dict)
    return answers


def end(child: pexpect.spawn) -> int:
    child.expect(pexpect.EOF)
    child.close()
    assert isinstance(child.exitstatus, int)
    return child.exitstatus


@pytest.fixture
def questions(repository: Path) -> Iterator[str]:
    """The texts of the questions that leave a choice, in their order."""
    return iter([q.help for q in read(repository).questions if len(q.values) != 1])


def test_keys_choose_a_project_and_single_choices_are_not_asked(
    tmp_path: Path, questions: Iterator[str]
) -> None:
    child = terminal("new", cwd=tmp_path)
    keys = {
        "What is the project called?": CTRL_U + "digits",
        "Which library runs the training loop?": DOWN,
        "Which number format": DOWN + DOWN,
        "Where do metrics go": " ",
    }
    for question in questions:
        child.expect_exact(question)
        child.send(next((key for text, key in keys.items() if question.startswith(text)), "") + ENTER)
    assert end(child) == 0
    answers = stored(tmp_path / "digits")
    assert (answers["project"], answers["package"]) == ("digits", "digits")
    assert (answers["framework"], answers["strategy"], answers["precision"]) == ("ignite", "single", "fp16")
    assert answers["loggers"] == []


def test_what_flags_said_is_not_asked(tmp_path: Path) -> None:
    flags = "--package=d --description=x --framework=ignite --ddp --loggers=none"
    child = terminal("new", "digits", *flags.split(), cwd=tmp_path)
    child.expect_exact("Which number format")
    child.send(ENTER)
    assert end(child) == 0
    assert stored(tmp_path / "digits")["package"] == "d"


def test_yes_asks_nothing_on_a_terminal(tmp_path: Path) -> None:
    child = terminal("new", "digits", "--yes", cwd=tmp_path)
    assert end(child) == 0
    assert "?" not in child.before
    assert (tmp_path / "digits").is_dir()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("torch", "'torch' is no project name"),
        ("taken", "taken exists and is not empty. Choose another folder"),
    ],
)
def test_a_bad_answer_gets_its_reason_at_once_and_another_try(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine").touch()
    child = terminal("new", "--framework=ignite", cwd=tmp_path)
    child.expect_exact("What is the project called?")
    child.send(CTRL_U + name + ENTER)
    child.expect_exact(reason)
    child.send(CTRL_U + "digits" + ENTER)
    child.expect_exact("imported")
    child.send(CTRL_C)
    assert end(child) == 1


@pytest.mark.parametrize("flag", ["--framework=tf", "--project=torch", "--loggers=x"])
def test_a_flag_that_nothing_can_mend_is_refused_before_anything_is_asked(tmp_path: Path, flag: str) -> None:
    child = terminal("new", flag, cwd=tmp_path)
    assert end(child) == 2
    assert child.before.startswith(f"mlscaffold: {flag.split('=')[0]}: ")


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_ctrl_c_leaves_nothing(tmp_path: Path, questions: Iterator[str], steps: int) -> None:
    child = terminal("new", cwd=tmp_path)
    for question in islice(questions, steps):
        child.expect_exact(question)
        child.send(ENTER)
    child.expect_exact(next(questions))
    child.send(CTRL_C)
    assert end(child) == 1
    assert "Stopped at a question. Nothing was written." in child.before
    assert "Traceback" not in child.before
    assert not list(tmp_path.iterdir())


def test_a_taken_target_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "digits").touch()
    child = terminal("new", "digits", cwd=tmp_path)
    assert end(child) == 1
    assert child.before.strip() == "mlscaffold: digits exists and is no folder. Choose another name."


@pytest.fixture
def ruled(checkout: Path) -> Path:
    """A copy of this repository whose `strategy` has a rule on ddp and one more choice."""
    document = yaml.safe_load((checkout / "copier.yml").read_text(encoding="utf-8"))
    rule = "{% if framework == 'ignite' %}Not with Ignite.{% endif %}"
    choices = {"One": "single", "Many": {"value": "ddp", "validator": rule}, "Last": "last"}
    document["strategy"]["choices"] = choices
    (checkout / "copier.yml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return checkout


def test_a_closed_choice_is_shown_with_its_reason_and_stepped_over(ruled: Path, tmp_path: Path) -> None:
    flags = "--package=d --description=x --framework=ignite --loggers=none --precision=fp32 --dry-run"
    child = terminal("new", "digits", *flags.split(), cwd=tmp_path, PYTHONPATH=str(ruled / "src"))
    child.expect_exact("Not with Ignite.")
    child.send(DOWN + ENTER)
    child.expect_exact("Last")
    assert "not offered" not in child.read()


def test_a_choice_that_a_flag_closes_is_shown_with_its_reason(ruled: Path, tmp_path: Path) -> None:
    flags = "--package=d --description=x --ddp --loggers=none --precision=fp32 --no-git"
    child = terminal("new", "digits", *flags.split(), cwd=tmp_path, PYTHONPATH=str(ruled / "src"))
    child.expect_exact("Not with Ignite.")
    child.send(DOWN + ENTER)
    assert end(child) == 0
    assert stored(tmp_path / "digits")["framework"] == "lightning"
