"""Questions on a real terminal, answered with keys."""

import re
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pexpect  # type: ignore[import-untyped]
import pytest
import yaml

from mlscaffold.catalogue.prompts import KEYS
from mlscaffold.catalogue.questions import read
from mlscaffold.catalogue.words import flag_words
from mlscaffold.rendering.render import ANSWERS_FILE
from tests.support.command import CTRL_C, CTRL_U, DOWN, ESC, UP, screen, terminal, until
from tests.support.projects import CATALOGUE

ENTER = "\r"
ARROWS = "(Use arrow keys)"  # beside a question; a row of the review has none
OF_IMAGES = "generator"  # a question that one task alone leaves a choice of
LAST = "   Continuous integration  None"  # of the rows of the review


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
    """The texts of the questions that are asked in turn of most tasks, in their order."""
    catalogue = read(repository)
    later = [*cast("list[str]", catalogue.settings["asked_in_review"]), OF_IMAGES]
    return iter([q.help for q in catalogue.questions if len(q.values) != 1 and q.name not in later])


def test_keys_choose_a_project_and_single_choices_are_not_asked(
    tmp_path: Path, questions: Iterator[str]
) -> None:
    child = terminal("new", cwd=tmp_path)
    child.expect_exact("Esc goes back")
    keys = {
        "Task": DOWN * 2,
        "Project name": "digits",
        "Framework": DOWN,
        "Precision": DOWN + DOWN,
        "Loggers": " ",
    }
    for question in questions:
        child.expect_exact(question)
        child.send(next((key for text, key in keys.items() if question.startswith(text)), "") + ENTER)
    make(child)
    answers = stored(tmp_path / "digits")
    assert (answers["project"], answers["package"]) == ("digits", "digits")
    assert answers["task"] == "language-modeling"
    assert (answers["framework"], answers["strategy"], answers["precision"]) == ("ignite", "single", "fp16")
    assert answers["loggers"] == []


def make(child: pexpect.spawn) -> None:
    """Take what the review shows."""
    child.expect_exact("Make this project?")
    child.send(ENTER)
    assert end(child) == 0


def asked(*names: str) -> list[str]:
    """Flags for all questions but these."""
    answers = CATALOGUE.resolve({})
    others = [q for q in CATALOGUE.questions if len(q.values) > 1 and q.name not in names]
    return [word for question in others for word in flag_words(question, answers[question.name])]


def test_the_task_is_the_first_question(tmp_path: Path) -> None:
    child = terminal("new", "--no-git", *asked("task"), cwd=tmp_path)
    child.expect_exact("Task")
    child.send(DOWN + ENTER)
    child.expect_exact("Project name")
    child.send(ENTER)
    make(child)
    assert stored(tmp_path / "my-project")["task"] == "text-classification"


def test_a_question_that_leaves_no_choice_is_neither_asked_nor_shown(tmp_path: Path) -> None:
    flags = asked("task", "generator", "optimizers", "precision")
    child = terminal("new", "digits", "--no-git", *flags, cwd=tmp_path)
    child.expect_exact("Task")
    child.send(UP + ENTER)
    child.expect_exact("Generator")
    child.send(DOWN + ENTER)
    child.expect_exact("Precision")  # and not how many optimizers, as a GAN has several
    child.send(ENTER)
    rows = {re.split("  +", line[3:])[0] for line in until(child, LAST)[4:]}
    assert {"Generator of images", "Loggers"} <= rows
    assert not {"How many optimizers", "Pretrained models"} & rows
    child.send(ENTER)
    assert end(child) == 0
    answers = stored(tmp_path / "digits")
    assert [answers[name] for name in ("generator", "optimizers")] == ["gan", "several"]


def test_esc_goes_back_and_the_answer_can_be_given_anew(tmp_path: Path) -> None:
    child = terminal("new", "--no-git", *asked("framework", "precision"), cwd=tmp_path)
    child.expect_exact("Project name")
    child.expect_exact("(my-project)")
    child.send("wrong" + ENTER)
    child.expect_exact("Framework")
    child.send(ESC)
    child.expect_exact("Project name")
    child.expect_exact("(wrong)")
    child.send("right" + ENTER)
    child.expect_exact("Framework")
    child.send(DOWN + ENTER)
    child.expect_exact("Precision")
    child.send(ENTER)
    child.expect_exact("Make this project?")
    child.send(ESC)
    child.expect_exact("Precision")
    child.expect_exact(ARROWS)
    child.send(DOWN + ENTER)
    make(child)
    answers = stored(tmp_path / "right")
    assert (answers["package"], answers["framework"], answers["precision"]) == ("right", "ignite", "bf16")
    assert [path.name for path in tmp_path.iterdir()] == ["right"]


def menu(text: str, first: str, second: str, at: int) -> list[str]:
    """The lines of a question with two choices, the pointer at one of them."""
    return [f"? {text} {ARROWS}", f" {'»  '[at]} {first}", f" {' » '[at]} {second}"]


FRAMEWORK = (
    "Framework",
    "PyTorch Lightning (the Trainer runs the loop, you fill in methods)",
    "PyTorch-Ignite (you write the step, handlers react to events)",
)
CALLED = "? Project name"


def test_esc_keeps_answers_clears_their_lines_and_is_quiet_at_the_first_question(tmp_path: Path) -> None:
    child = terminal("new", "--no-git", *asked("framework", "precision"), cwd=tmp_path)
    assert until(child, f"{CALLED}  (my-project)") == [KEYS, f"{CALLED}  (my-project)"]
    child.send(ESC)
    child.send(ESC)
    child.send("digits" + ENTER)
    at_framework = until(child, *menu(*FRAMEWORK, at=0))
    assert at_framework[:-3] == [KEYS, f"{CALLED} digits"]
    child.send(DOWN + ENTER)
    at_precision = until(child, "   float16 (mixed precision with a gradient scaler)")
    child.send(ESC)
    assert until(child, *menu(*FRAMEWORK, at=1))[:-3] == [KEYS, f"{CALLED} digits"]
    child.send(ESC)
    assert until(child, f"{CALLED}  (digits)") == [KEYS, f"{CALLED}  (digits)"]
    child.send(ENTER)
    assert until(child, *menu(*FRAMEWORK, at=1))[:-3] == [KEYS, f"{CALLED} digits"]
    child.send(ENTER)
    assert until(child, at_precision[-1]) == at_precision
    child.send(ENTER)
    make(child)
    assert stored(tmp_path / "digits")["framework"] == "ignite"


def test_esc_in_a_question_that_the_review_opened_goes_back_to_the_review(tmp_path: Path) -> None:
    child = terminal("new", "digits", "--no-git", *asked("precision"), cwd=tmp_path)
    child.expect_exact("Precision")
    child.send(ENTER)
    review = until(child, LAST)
    child.send(DOWN * 5 + ENTER)
    assert until(child, *menu(*FRAMEWORK, at=0)) == [KEYS, *menu(*FRAMEWORK, at=0)]
    child.send(ESC)
    assert until(child, review[-1]) == review
    child.send(DOWN * 7 + ENTER)
    child.expect_exact("How many devices?")
    child.send(DOWN + ENTER)
    changed = until(child, "   Loggers                 TensorBoard", *review[-6:])
    assert set(changed) - set(review) == {"   How many devices        Several, DDP"}
    child.send(ENTER)
    assert end(child) == 0
    assert stored(tmp_path / "digits")["strategy"] == "ddp"
    assert screen(child)[:2] == [KEYS, "? Precision float32"]


def test_the_review_says_what_was_chosen_in_words_and_leaves_out_what_is_empty(tmp_path: Path) -> None:
    flags = [*asked("precision", "loggers", "serving", "docker"), "--docker", "--serving=fastapi"]
    child = terminal("new", "digits", "--dry-run", *flags, "--loggers=mlflow,wandb", cwd=tmp_path)
    child.expect_exact("Precision")
    child.send(DOWN + ENTER)
    rows = [re.split("  +", line[3:]) for line in until(child, LAST)[4:]]
    assert dict(rows) == {
        "Project name": "digits",
        "Package name": "digits",
        "Description": "Trains and evaluates a model.",
        "Task": "Image classification",
        "Framework": "PyTorch Lightning",
        "How many optimizers": "One",
        "How many devices": "One",
        "Precision": "bfloat16",
        "Pretrained models": "None",
        "Loggers": "MLflow, Weights & Biases",
        "Hyperparameter search": "None",
        "Export and serving": "Export and a FastAPI service",
        "Launchers": "None",
        "Monitoring": "None",
        "Dockerfile": "Yes",
        "Continuous integration": "None",
    }


def test_a_package_that_followed_a_new_name_and_cannot_stand_is_asked_for(tmp_path: Path) -> None:
    child = terminal("new", "--no-git", *asked(), cwd=tmp_path)
    child.expect_exact("Project name")
    child.send("digits" + ENTER)
    child.expect_exact("Make this project?")
    child.send(DOWN * 2 + ENTER)
    child.expect_exact("Project name")
    child.expect_exact("(digits)")
    child.send("2nd" + ENTER)
    child.expect_exact("Package name")
    child.send("second" + ENTER)
    make(child)
    assert stored(tmp_path / "2nd")["package"] == "second"


@pytest.mark.parametrize("columns", [80, 48])
def test_no_word_is_broken_on_a_narrow_terminal(tmp_path: Path, columns: int) -> None:
    """A line that reaches the last column may go on in the next one, in the middle of a word."""
    child = terminal("new", "--dry-run", cwd=tmp_path, dimensions=(24, columns))

    def look(*texts: str) -> None:
        for text in texts:
            child.expect_exact(text)
        assert [line for line in screen(child) if len(line) >= columns] == []

    first, *others = CATALOGUE.questions
    look(first.help, first.choices[-1].label.split()[-1])
    child.send(ENTER)
    look("Project name", "(my-project)")
    child.send("torch" + ENTER)
    look("torch-net.")
    child.send(CTRL_U + "digits" + ENTER)
    later = [*cast("list[str]", CATALOGUE.settings["asked_in_review"]), OF_IMAGES]
    for question in others:
        if len(question.values) > 1 and question.name not in later:
            look(question.help[:20], question.choices[-1].label.split()[-1])
            child.send((DOWN * 2 if question.name == "serving" else "") + ENTER)
    look("Make this project?", "Continuous integration ")
    child.send(DOWN * 4 + ENTER)
    look("Description", "model.)")


@pytest.mark.parametrize("question", ["Project name", "Framework"])
def test_a_signal_ends_it_as_the_key_does(tmp_path: Path, question: str) -> None:
    child = terminal(
        "new", *asked("framework"), *(["digits"] if question == "Framework" else []), cwd=tmp_path
    )
    child.expect_exact(question)
    until(child, *(menu(*FRAMEWORK, at=0) if question == "Framework" else [f"{CALLED}  (my-project)"]))
    child.kill(signal.SIGINT)
    assert end(child) == 130
    assert "Stopped at a question. Nothing was written." in child.before


def test_the_review_shows_all_and_changes_what_is_chosen(tmp_path: Path) -> None:
    child = terminal("new", "--no-git", *asked(), cwd=tmp_path)
    child.expect_exact("Project name")
    child.send("digits" + ENTER)
    child.expect_exact("Make this project?")
    for row in ("Project name  ", "Package name  ", "Description  ", "Framework  ", "Precision  "):
        child.expect_exact(row)
    child.send(DOWN * 2 + ENTER)  # the project: its package follows
    child.expect_exact("Project name")
    child.expect_exact("(digits)")
    child.send("letters" + ENTER)
    child.expect_exact("Make this project?")
    child.send(DOWN * 4 + ENTER)
    child.expect_exact("Description")
    child.expect_exact("(Trains and evaluates a model.)")
    child.send("Reads letters." + ENTER)
    child.expect_exact("Make this project?")
    child.send(DOWN * 3 + ENTER)
    child.expect_exact("Package name")
    child.expect_exact("(letters)")
    child.send(ENTER)
    child.expect_exact("Make this project?")
    child.send(DOWN + UP + ENTER)
    assert end(child) == 0
    answers = stored(tmp_path / "letters")
    assert (answers["package"], answers["description"]) == ("letters", "Reads letters.")
    assert answers["framework"] == "lightning"


def test_reasons_for_a_framework_go_when_another_is_chosen(tmp_path: Path) -> None:
    child = terminal(
        "new", "digits", "--no-git", "--because", "It is short.", *asked("precision"), cwd=tmp_path
    )
    child.expect_exact("Precision")
    child.send(ENTER)
    child.expect_exact("Make this project?")
    child.send(DOWN * 5 + ENTER)
    child.expect_exact("Framework")
    child.expect_exact(ARROWS)
    child.send(DOWN + ENTER)
    make(child)
    assert (stored(tmp_path / "digits")["framework"], stored(tmp_path / "digits")["because"]) == (
        "ignite",
        "",
    )


def test_a_default_that_cannot_stand_is_asked_for(tmp_path: Path) -> None:
    child = terminal("new", "2nd", "--no-git", *asked(), cwd=tmp_path)
    child.expect_exact("Package name")
    child.expect_exact("(2nd)")
    child.send(ENTER)
    child.expect_exact("is no package name")
    child.send("second" + ENTER)
    make(child)
    assert stored(tmp_path / "2nd")["package"] == "second"


COLOURS = re.compile(r"\x1b\[([0-9]+;)*(3[0-8]|4[0-8]|9[0-7])[;m]")


@pytest.mark.parametrize(
    "settings",
    [
        {"NO_COLOR": "1", "TERM": "xterm-256color"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_terminal_without_colours_or_with_ascii_only_can_be_asked(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    child = terminal("new", "--no-git", *asked("framework"), cwd=tmp_path, **cast("dict[str, Any]", settings))
    for question in ("Project name", "Framework"):
        child.expect_exact(question)
        child.send(ENTER)
    make(child)
    assert (tmp_path / "my-project").is_dir()
    assert not COLOURS.search(child.logfile_read.getvalue())


def test_a_terminal_that_cannot_move_its_cursor_is_not_asked(tmp_path: Path) -> None:
    child = terminal("new", "--no-git", cwd=tmp_path, TERM="dumb")
    assert end(child) == 0
    assert (tmp_path / "my-project").is_dir()


def test_what_flags_said_is_not_asked(tmp_path: Path) -> None:
    child = terminal("new", "digits", "--package=d", *asked("precision"), cwd=tmp_path)
    child.expect_exact("Precision")
    child.send(ENTER)
    make(child)
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
    child = terminal("new", *asked("precision"), cwd=tmp_path)
    child.expect_exact("Project name")
    child.send(name + ENTER)
    child.expect_exact(reason)
    child.send(CTRL_U + "digits" + ENTER)
    child.expect_exact("Precision")
    child.send(CTRL_C)
    assert end(child) == 130


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
    assert end(child) == 130
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
    flags = [*asked("strategy", "framework"), "--framework=ignite", "--dry-run"]
    child = terminal("new", "digits", *flags, cwd=tmp_path, PYTHONPATH=str(ruled / "src"))
    child.expect_exact("Not with Ignite.")
    child.send(DOWN + ENTER)
    child.expect_exact("Make this project?")
    child.expect_exact("Last")
    child.send(ENTER)
    assert "not offered" not in child.read()


def test_a_choice_that_a_flag_closes_is_shown_with_its_reason(ruled: Path, tmp_path: Path) -> None:
    flags = [*asked("strategy", "framework"), "--ddp", "--no-git"]
    child = terminal("new", "digits", *flags, cwd=tmp_path, PYTHONPATH=str(ruled / "src"))
    child.expect_exact("Not with Ignite.")
    child.send(DOWN + ENTER)
    make(child)
    assert stored(tmp_path / "digits")["framework"] == "lightning"
