"""Templates are valid files of their own language, and each option fills one module."""

import re
import shutil
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml

from tests.support.projects import CATALOGUE, FRAMEWORKS, PARALLEL, tool
from tests.support.releases import ROOT

TEMPLATES = ROOT / "templates"
FILES = sorted(path for path in TEMPLATES.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
STATEMENT = re.compile(r"^\s*#:\s*(\w+)(.*)$", re.MULTILINE)
LOOP = ["core/training/state.py", "frameworks/*/engine.py", "frameworks/*/step/*.py"]  # what a run is made of


def name(path: Path) -> str:
    return path.relative_to(TEMPLATES).as_posix()


def ending(*suffixes: str) -> list[Path]:
    return [path for path in FILES if path.name.endswith(suffixes)]


def conditions(path: Path) -> list[str]:
    """What the `if` and `elif` statements of a template ask."""
    return [rest for word, rest in STATEMENT.findall(path.read_text("utf-8")) if word in ("if", "elif")]


def options_in(text: str) -> set[str]:
    return {question.name for question in CATALOGUE.everything if re.search(rf"\b{question.name}\b", text)}


def test_ruff_passes_on_the_templates_as_they_lie() -> None:
    """What they render to is formatted, see `test_generated`: they are not, by lines around statements."""
    assert tool("ruff", "check", TEMPLATES, cwd=ROOT) == ""


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_passes_on_python_templates_under_the_names_they_will_have(
    command: list[str], tmp_path: Path
) -> None:
    """One program for all of them, beside what they are sorted by: the other templates, and the settings."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(TEMPLATES, tmp_path / "templates", ignore=shutil.ignore_patterns("__pycache__"))
    package = tmp_path / "templates/project/src/{{ package }}"
    package.rename(package.with_name("my_project"))
    named = [path.rename(path.with_suffix("")) for path in tmp_path.rglob("*.py.jinja")]
    assert len(named) == len(ending(".py.jinja")) > 0
    assert tool("ruff", *command, "--no-cache", *named, cwd=tmp_path) == ""


@pytest.mark.parametrize("path", ending(".toml", ".toml.jinja"), ids=name)
def test_a_toml_template_is_toml(path: Path) -> None:
    assert tomllib.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("path", ending(".yml", ".yaml", ".yml.jinja", ".yaml.jinja"), ids=name)
def test_a_yaml_template_is_yaml(path: Path) -> None:
    text = path.read_text("utf-8")
    assert yaml.safe_load(text) or text.startswith("#: include ")


def test_every_framework_has_the_same_modules() -> None:
    expected = {"engine.py", "pretended.py", *(f"parallel/{strategy}.py" for strategy in PARALLEL)}
    expected |= {f"step/{choice}.py" for choice in CATALOGUE["optimizers"].values}
    for framework in FRAMEWORKS:
        folder = TEMPLATES / "frameworks" / framework
        assert {path.relative_to(folder).as_posix() for path in FILES if folder in path.parents} == expected


def test_every_task_has_the_same_modules() -> None:
    """Helpers that stand beside `task/`, tests and the like are a task's own."""
    expected = {path.name.removesuffix(".jinja") for path in TEMPLATES.glob("project/src/*/task/*.py.jinja")}
    expected = expected - {"__init__.py"} | {"package.py"}
    for folder in (TEMPLATES / "tasks").iterdir():
        assert expected <= {path.name for path in folder.iterdir()}, folder.name


@pytest.mark.parametrize("pattern", LOOP)
def test_the_loop_asks_for_nothing_but_the_strategy(pattern: str) -> None:
    """One process has nobody to agree with, and a project for it no code that says so."""
    for path in TEMPLATES.glob(pattern):
        for line in conditions(path):
            assert options_in(line) == {"strategy"}, name(path)


def test_a_module_that_belongs_to_one_choice_does_not_ask_for_it() -> None:
    for folder, asked in chain(
        [(TEMPLATES / "frameworks", "framework")],
        ((folder, "strategy") for folder in TEMPLATES.glob("frameworks/*/parallel")),
        ((folder, "optimizers") for folder in TEMPLATES.glob("frameworks/*/step")),
        ((folder, "task") for folder in (TEMPLATES / "tasks").iterdir()),
    ):
        for path in folder.rglob("*.py"):
            assert not [line for line in conditions(path) if asked in options_in(line)], path


def test_no_condition_asks_for_two_options() -> None:
    for path in FILES:
        for line in conditions(path):
            assert len(options_in(line)) == 1, f"{name(path)}: #: if{line}"


def test_no_condition_stands_inside_another() -> None:
    """Together they would ask for two options."""
    for path in FILES:
        depth = 0
        for word, _ in STATEMENT.findall(path.read_text("utf-8")):
            depth += {"if": 1, "endif": -1}.get(word, 0)
            assert depth <= 1, name(path)
        assert depth == 0, name(path)


def test_no_template_names_the_two_ways_to_set_tf32_that_pytorch_fails_to_mix() -> None:
    """`torch.set_float32_matmul_precision` sets it and goes with either."""
    for path in FILES:
        assert not re.search("allow_tf32|fp32_precision", path.read_text("utf-8")), name(path)
