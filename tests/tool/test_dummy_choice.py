"""A new choice, and a new question, reach the whole tool from `copier.yml` alone."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from mlscaffold.catalogue.questions import read
from tests.support.command import DOWN, mlscaffold, terminal
from tests.tool.test_prompts import asked

RULE = "{% if framework == 'lightning' %}The dummy needs framework=ignite.{% endif %}"


@pytest.fixture
def copy(checkout: Path) -> Path:
    """A copy of this repository with a third strategy, with a rule, and one more question."""
    document = yaml.safe_load((checkout / "copier.yml").read_text(encoding="utf-8"))
    document["strategy"]["choices"]["A dummy"] = {"value": "dummy", "validator": RULE}
    document["extra_thing"] = {
        "type": "str",
        "help": "Something [more]?",
        "default": "plain",
        "choices": {"Plain": "plain", "Fancy": "fancy"},
        "ask": "{{ fresh }}",
    }
    for framework in ("lightning", "ignite"):
        parallel = checkout / "templates/frameworks" / framework / "parallel"
        shutil.copy(parallel / "ddp.py", parallel / "dummy.py")
    (checkout / "copier.yml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return checkout


def test_flags_prompts_options_and_the_matrix_follow(repository: Path, copy: Path, tmp_path: Path) -> None:
    source = {"PYTHONPATH": str(copy / "src")}

    told = mlscaffold("new", "--help", cwd=tmp_path, COLUMNS="120", env=source).out
    assert "|dummy" in told
    assert "--dummy " in told
    assert "--extra-thing plain|fancy" in told
    assert "Something [more]?" in told

    flags = ["new", "digits", "--framework=ignite", "--dummy", "--extra-thing", "fancy", "--json"]
    made = json.loads(mlscaffold(*flags, cwd=tmp_path, env=source).out)
    assert (made["answers"]["strategy"], made["answers"]["extra_thing"]) == ("dummy", "fancy")
    assert made["command"].endswith("--framework ignite --strategy dummy --extra-thing fancy")
    stored = yaml.safe_load((tmp_path / "digits/.copier-answers.yml").read_text(encoding="utf-8"))
    assert (stored["strategy"], stored["extra_thing"]) == ("dummy", "fancy")

    closed = mlscaffold("new", "x", "--framework=lightning", "--dummy", cwd=tmp_path, env=source)
    assert (closed.code, closed.err) == (2, "mlscaffold: --strategy: The dummy needs framework=ignite.\n")

    options = {
        option["name"]: option
        for option in json.loads(mlscaffold("options", "--json", cwd=tmp_path, env=source).out)
    }
    assert options["strategy"]["choices"][-1]["closed_because"] == ["The dummy needs framework=ignite."]
    assert [choice["value"] for choice in options["extra_thing"]["choices"]] == ["plain", "fancy"]

    before, after = list(read(repository).combinations()), list(read(copy).combinations())
    strategies = len(read(repository)["strategy"].choices)
    with_ignite = len(before) // 2 // strategies  # the dummy goes with one framework of two
    assert len(after) == 2 * (len(before) + with_ignite)
    assert {"dummy"} == {str(answers["strategy"]) for answers in after} - {str(a["strategy"]) for a in before}


def test_the_prompt_follows(copy: Path, tmp_path: Path) -> None:
    flags = [*asked("framework", "strategy"), "--framework=ignite", "--strategy=dummy"]
    child = terminal("new", "digits", *flags, cwd=tmp_path, PYTHONPATH=str(copy / "src"))
    child.expect_exact("Something [more]?")
    child.send(DOWN + "\r")
    child.expect_exact("Make this project?")
    child.send("\r")
    child.expect_exact("To make it again")
    child.wait()
    stored = yaml.safe_load((tmp_path / "digits/.copier-answers.yml").read_text(encoding="utf-8"))
    assert stored["extra_thing"] == "fancy"
