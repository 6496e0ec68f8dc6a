"""Where answers come from, which of them wins, and answers files of any content."""

import json
import random
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from mlscaffold.catalogue.answers import read_answers
from mlscaffold.catalogue.questions import read
from mlscaffold.errors import MlscaffoldError
from tests.conftest import RenderProject
from tests.support.command import mlscaffold, refused

# Nine lists, each of nine times the one before: 9 ** 9 words for whoever prints them.
LISTS = [b"&%c [%s]" % (letter + 1, b",".join([b"*%c" % letter] * 9)) for letter in b"abcdefghi"]
BOMB = b"loggers: [&a [x], " + b", ".join(LISTS) + b"]"


def answered(*arguments: str, cwd: Path) -> dict[str, object]:
    ran = mlscaffold("new", "--json", "--dry-run", *arguments, cwd=cwd)
    assert ran.code == 0, ran.err
    answers = json.loads(ran.out)["answers"]
    assert isinstance(answers, dict)
    return answers


def test_a_flag_wins_over_the_file_and_the_file_over_the_name_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "team.yml").write_text("project: from-file\nframework: ignite\nprecision: bf16\n")
    flags = ("--answers", "team.yml", "--precision", "fp16")
    answers = answered("folder", *flags, cwd=tmp_path)
    assert (answers["project"], answers["framework"], answers["precision"]) == ("from-file", "ignite", "fp16")
    assert answers["package"] == "from_file"
    assert answered("folder", *flags, "--project", "from-flag", cwd=tmp_path)["project"] == "from-flag"
    assert answered("folder", cwd=tmp_path)["project"] == "folder"
    assert answered(cwd=tmp_path)["project"] == "my-project"


def test_the_answers_of_a_project_make_another(tmp_path: Path, render_project: RenderProject) -> None:
    first = render_project(
        tmp_path / "first", project="first", framework="ignite", loggers=[], description="猫"
    )
    answers = answered("second", "--answers", "first/.copier-answers.yml", cwd=tmp_path)
    stored = yaml.safe_load((first / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert answers == {name: answer for name, answer in stored.items() if name[0] != "_"}


@pytest.mark.parametrize(
    ("flags", "loggers"),
    [
        ([], ["tensorboard"]),
        (["--loggers", "none"], []),
        (["--loggers", "tensorboard,tensorboard"], ["tensorboard"]),
        (["--loggers", "tensorboard", "--loggers", "tensorboard"], ["tensorboard"]),
        (["--loggers", ""], []),
    ],
)
def test_loggers_repeat_or_take_commas(tmp_path: Path, flags: list[str], loggers: list[str]) -> None:
    assert answered(*flags, cwd=tmp_path)["loggers"] == loggers


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--framework", "ignit"], "'ignit' is not offered, only lightning, ignite. Did you mean ignite?"),
        (["--framework", ""], "--framework: '' is not offered, only lightning, ignite."),
        (["--loggers", "none,tensorboard"], "--loggers: 'none' is not offered"),
        (["--loggers", "tensorbord"], "Did you mean tensorboard?"),
        (["--ddp", "--strategy", "single"], "--ddp and --strategy single exclude each other."),
        (["--docker=yes"], "does not take a value"),
        (["--frame", "ignite"], "--framework"),
        (["--answers"], "requires an argument"),
        (["a", "b"], "unexpected extra argument"),
    ],
)  # fmt: skip
def test_a_flag_that_cannot_be_meant_is_wrong_usage(tmp_path: Path, flags: list[str], said: str) -> None:
    assert said in refused("new", *flags, cwd=tmp_path, code=2, lines=4)
    assert not list(tmp_path.iterdir())


def test_a_short_form_may_repeat_what_the_long_one_says(tmp_path: Path) -> None:
    assert answered("--ddp", "--strategy", "ddp", cwd=tmp_path)["strategy"] == "ddp"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"framewrk: ignite", "'framewrk' is no option. Did you mean framework?"),
        (b"framework: tf", "a.yml: framework: 'tf' is not offered, only lightning, ignite."),
        (b"project: torch", "a.yml: project: 'torch' is no project name"),
        (b"framework: [ignite]", "framework: ['ignite'] is no text"),
        (b"framework:", "framework: None is no text"),
        (b"description: 2024-01-01", "is no text. Put it in quotes."),
        (b"loggers: tensorboard", "loggers: 'tensorboard' is no list of names"),
        (b"docker: 3", "docker: 3 is neither true nor false"),
        (b"1: 2", "'1' is no option"),
        (b"? [a, b]\n: c", "is not YAML"),
        (b"a: b: c", "is not YAML"),
        (b"\t", "is not YAML"),
        (b"!!python/object/apply:os.system [touch pwned]", "is not YAML"),
        (b"when: !!timestamp x", "is not YAML"),
        (b"yes: !!bool x", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"\x00\x01", "is not YAML"),
        (b"[" * 20000, "is not YAML"),
        (b"- a\n- b", "holds no answers"),
        (b"", "holds no answers"),
        (b"just a sentence", "holds no answers"),
        (b"a: &a [*a]", "the alias *a stands within what it repeats"),
        (BOMB, "its aliases repeat too much"),
        (b"loggers: &a [[[[[[*a]]]]]]", "the alias *a stands within"),
        (b"{", "is not YAML"),
    ],
)  # fmt: skip
def test_an_answers_file_of_any_content_is_refused_in_a_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "a.yml").write_bytes(content)
    ran = mlscaffold("new", "digits", "--answers", "a.yml", cwd=tmp_path)
    assert ran.code in (1, 2)
    assert ran.err.startswith("mlscaffold: a.yml")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert len(ran.err) < 500
    assert [path.name for path in tmp_path.iterdir()] == ["a.yml"]


def test_random_characters_are_read_or_refused_and_never_anything_else(
    repository: Path, tmp_path: Path
) -> None:
    draw = random.Random(7)
    for _ in range(2000):
        content = bytes(draw.choices(b"abc:-[]{}&*!|>'\"#%@`?=~ \n\t\x00\xff", k=draw.randrange(40)))
        (tmp_path / "a.yml").write_bytes(content)
        with suppress(MlscaffoldError):
            read_answers(read(repository), tmp_path / "a.yml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "no.yml cannot be read: No such file" in refused(
        "new", "--answers", "no.yml", cwd=tmp_path, code=1
    )
    assert "cannot be read: Is a directory" in refused("new", "--answers", ".", cwd=tmp_path, code=1)


def test_all_reasons_against_what_was_given_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("precision: fp8\n")
    said = refused("new", "torch", "--framework=tf", "--answers=a.yml", cwd=tmp_path, code=2, lines=3)
    assert [line.split(": ")[0] for line in said.splitlines()] == ["mlscaffold", "a.yml", "torch"]
    assert "--framework: 'tf'" in said
