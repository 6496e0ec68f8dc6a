"""`mlscaffold choose` recommends what its table says, and shows why."""

import json
import shlex
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest

from mlscaffold.catalogue.choose import FRAMEWORKS, WEIGHTS, advise, questions
from mlscaffold.catalogue.questions import read
from tests.support.command import CTRL_C, DOWN, mlscaffold, refused, screen, terminal
from tests.support.projects import by_framework, rendered


@pytest.mark.parametrize(
    ("flags", "take", "said"),
    [
        (["--step", "standard", "--team", "many"], "PyTorch Lightning", "the same methods"),
        (["--step", "own", "--team", "few"], "PyTorch-Ignite", "is a function in engine.py"),
        (["--code", "loop"], "PyTorch-Ignite", "becomes an Ignite step as it is"),
        (["--code", "lightning", "--step", "own"], "PyTorch Lightning", "For PyTorch-Ignite:"),
        (["--parts", "both", "--step", "standard"], "one of each", "best.pt of one loads in the other"),
    ],
)
def test_flags_answer_where_nobody_can_be_asked(
    tmp_path: Path, flags: list[str], take: str, said: str
) -> None:
    ran = mlscaffold("choose", *flags, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Take {take} (PyTorch Lightning ")
    assert said in ran.out


@pytest.mark.parametrize(
    ("flags", "verdict", "because"),
    [
        ([], "Nothing speaks for either.", False),
        (["--scale", "several"], "Nothing speaks for either.", False),
        (
            ["--code", "loop", "--step", "standard"],
            "As much speaks for one as for the other (PyTorch Lightning 2, PyTorch-Ignite 2).",
            True,
        ),
    ],
)
def test_where_neither_is_ahead_the_default_is_named(
    tmp_path: Path, flags: list[str], verdict: str, because: bool
) -> None:
    said = mlscaffold("choose", *flags, cwd=tmp_path).out
    assert said.startswith(f"{verdict} The default is PyTorch Lightning.\n")
    assert ("--because" in said) == because


def test_what_projects_of_both_frameworks_have_weighs_nothing(repository: Path) -> None:
    answers = questions().resolve({})
    for brings, scale in [(row.brings, row.value) for row in WEIGHTS["scale", "Where does it train?"]]:
        advice = advise(read(repository), {**answers, "scale": scale})
        made = [rendered({"framework": framework, **brings}).files for framework in FRAMEWORKS]
        assert {name for files in made for name in files} == set(made[0]) == set(made[1])
        assert advice.scores == {"lightning": 0, "ignite": 0}


def test_the_recommended_commands_work(tmp_path: Path) -> None:
    advice = json.loads(mlscaffold("choose", "--parts=both", "--scale=sharded", "--json", cwd=tmp_path).out)
    assert advice["take"] == "both"
    commands = [shlex.split(command) for command in advice["commands"]]
    assert [command[:2] for command in commands] == [["mlscaffold", "new"]] * 2
    for command in commands:
        assert mlscaffold(*command[1:], "--dry-run", cwd=tmp_path).code == 0


@by_framework(27)
def test_the_reasons_that_decided_stand_in_the_readme(tmp_path: Path, framework: str) -> None:
    flags = {"lightning": ("--step=standard", "--team=many"), "ignite": ("--step=own", "--code=loop")}
    advice = json.loads(mlscaffold("choose", *flags[framework], "--json", cwd=tmp_path).out)
    [command] = advice["commands"]
    assert mlscaffold(*shlex.split(command)[1:], "--yes", "--no-git", cwd=tmp_path).code == 0
    readme = (tmp_path / f"my-{framework}-project/README.md").read_text()
    title, reasons = readme.partition("## Why ")[2].partition("## Set up")[0].split("\n\n")[:2]
    assert framework in title.lower()
    assert len(advice["reasons"][framework]) == 2
    assert reasons == " ".join(advice["reasons"][framework])


@by_framework(27)
def test_without_reasons_the_readme_gives_none(framework: str) -> None:
    assert "## Why" not in rendered({"framework": framework}).files["README.md"]


def test_every_weight_and_reason_is_shown(tmp_path: Path) -> None:
    said = mlscaffold("choose", "--weights", cwd=tmp_path).out
    for rows in WEIGHTS.values():
        for row in rows:
            assert f"| {row.label} | {row.lightning or ''} | {row.ignite or ''} | {row.reason} |" in said


def test_devices_decide_the_strategy_where_it_is_offered(repository: Path) -> None:
    catalogue = read(repository)
    answers = questions().resolve({})
    [several] = advise(catalogue, {**answers, "scale": "several"}).commands
    assert "--strategy ddp" in several
    [sharded] = advise(catalogue, {**answers, "scale": "sharded"}).commands
    assert ("--strategy fsdp" in sharded) == ("fsdp" in catalogue["strategy"].values)


def test_every_task_can_be_chosen(repository: Path) -> None:
    catalogue = read(repository)
    [asked] = [rows for (name, _), rows in WEIGHTS.items() if name == "data"]
    assert [row.brings.get("task", catalogue["task"].default) for row in asked] == catalogue["task"].values
    for row in asked:
        [command] = advise(catalogue, {**questions().resolve({}), "data": row.value}).commands
        assert (f"--task {row.brings.get('task')}" in command) == ("task" in row.brings)


def test_the_task_is_named_with_the_framework(tmp_path: Path) -> None:
    said = mlscaffold("choose", "--data", "texts", cwd=tmp_path).out
    assert "\nThe task is text classification.\n" in said
    assert json.loads(mlscaffold("choose", "--json", cwd=tmp_path).out)["task"] == "image-classification"


def test_every_weight_has_a_reason_and_every_reason_can_be_met() -> None:
    for rows in WEIGHTS.values():
        assert (rows[0].lightning, rows[0].ignite, rows[0].reason) == (0, 0, "")
        for row in rows:
            assert bool(row.lightning or row.ignite or row.value == "both") == bool(row.reason)


def test_an_unknown_answer_is_refused(tmp_path: Path) -> None:
    said = refused("choose", "--step", "standart", cwd=tmp_path, code=2, lines=1)
    assert "--step: 'standart' is not offered" in said
    assert said.endswith("Did you mean standard?\n")


def test_on_a_terminal_it_asks_what_no_flag_said(tmp_path: Path) -> None:
    known = ("--data=images", "--step=own", "--team=few", "--code=nothing")
    child = terminal("choose", *known, cwd=tmp_path)
    child.expect_exact("When does something else happen")
    child.send(DOWN + DOWN + "\r")
    for question in ("Where does it train?", "parts of different kinds?"):
        child.expect_exact(question)
        child.send("\r")
    child.expect_exact("Take PyTorch-Ignite (PyTorch Lightning 0, PyTorch-Ignite 5).")
    child = terminal("choose", cwd=tmp_path)
    child.expect_exact("What does it learn from?")
    child.send(CTRL_C)
    child.expect_exact("Stopped at a question.")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_on_a_terminal_reasons_are_folded_between_words(tmp_path: Path) -> None:
    flags = [f"--{name}={rows[-1].value}" for (name, _), rows in WEIGHTS.items()]
    child = terminal("choose", *flags, cwd=tmp_path, dimensions=(60, 60))
    child.expect(pexpect.EOF)
    advice = "\n".join(screen(child)).partition("\n\nTo begin:")[0]
    reasons = " ".join(advice.split())
    for rows in WEIGHTS.values():
        assert rows[-1].reason in reasons
