"""`mlscaffold doctor` tells what is there, and fails where something is broken."""

import json
import sys
import venv
from pathlib import Path

import pytest

from mlscaffold.catalogue.questions import read
from mlscaffold.doctor import examine_project
from mlscaffold.releases.own import template_root
from tests.conftest import RenderProject
from tests.support.command import mlscaffold
from tests.support.releases import commit, git, run

HERE = {"VIRTUAL_ENV": sys.prefix}


def findings(folder: Path, code: int, **settings: str) -> dict[str, tuple[str, str]]:
    ran = mlscaffold("doctor", "--json", cwd=folder, env=HERE | settings)
    assert (ran.code, ran.err) == (code, "")
    return {found["what"]: (found["state"], found["text"]) for found in json.loads(ran.out)}


def test_outside_a_project_it_looks_at_the_machine(tmp_path: Path) -> None:
    found = findings(tmp_path, 0)
    assert found["git"][0] in ("ok", "note")  # a system may mend a git without another number
    assert found["python"] == ("ok", f"{sys.version.split()[0]} ({Path(sys.prefix) / 'bin/python'})")
    assert found["torch"][0] == "ok"
    assert " on " in found["torch"][1]
    assert found["versions"][0] in ("ok", "note")
    assert found["project"] == ("note", f"None in {tmp_path}.")


def test_the_text_has_a_line_a_finding(tmp_path: Path) -> None:
    ran = mlscaffold("doctor", cwd=tmp_path, env=HERE)
    assert [line.split()[1] for line in ran.out.splitlines()] == [
        "git",
        "python",
        "torch",
        "versions",
        "project",
    ]


def in_project(folder: Path) -> dict[str, tuple[str, str]]:
    found = examine_project(read(template_root()), folder)
    return {finding.what: (finding.state, finding.text) for finding in found}


def test_a_committed_project_is_in_order(tmp_path: Path, render_project: RenderProject) -> None:
    project = render_project(tmp_path / "digits", project="digits")
    assert in_project(project)["changes"][0] == "note"
    git(project, "init", "--quiet")
    commit(project)
    found = findings(project, 0)
    assert found["answers"] == ("ok", "valid")
    assert found["changes"] == ("ok", "all committed")
    assert "release" in found
    (project / "pyproject.toml").write_text("")
    assert in_project(project)["changes"] == ("note", "1 file not committed; commit before an update.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("framework: tf\n", "framework: 'tf' is not offered, only lightning, ignite."),
        ("framwork: x\n", "Did you mean framework?"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_broken_answers_are_named(
    tmp_path: Path, render_project: RenderProject, text: str, said: str
) -> None:
    project = render_project(tmp_path / "digits", project="digits")
    (project / ".copier-answers.yml").write_text(text)
    state, told = in_project(project)["answers"]
    assert state == "broken"
    assert said in told


def test_conflicts_are_named_and_are_a_failure(tmp_path: Path, render_project: RenderProject) -> None:
    project = render_project(tmp_path / "digits", project="digits")
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project)
    for branch, text in (("a", "one\n"), ("b", "two\n")):
        git(project, "checkout", "--quiet", "-b", branch, "main")
        (project / "pyproject.toml").write_text(text)
        commit(project)
    assert "CONFLICT" in run("git", "merge", "a", cwd=project, code=1)
    assert findings(project, 1)["changes"] == ("broken", "Conflicts to resolve: pyproject.toml")


def test_a_project_whose_environment_lacks_torch_is_broken(
    tmp_path: Path, render_project: RenderProject
) -> None:
    project = render_project(tmp_path / "digits", project="digits")
    venv.create(project / ".venv", symlinks=True)
    found = findings(project, 1, VIRTUAL_ENV=str(project / ".venv"))
    assert found["torch"][0] == "broken"
    assert "pip install -e '.[dev]'" in found["torch"][1]


def test_without_git_updates_are_broken(tmp_path: Path) -> None:
    assert findings(tmp_path, 1, PATH=str(tmp_path))["git"][0] == "broken"


def test_a_python_that_does_not_run_is_told(tmp_path: Path) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / ".venv/bin/python").chmod(0o755)
    state, text = findings(tmp_path, 1, VIRTUAL_ENV=str(tmp_path / ".venv"))["python"]
    assert state == "broken"
    assert "does not run" in text


def test_versions_other_than_the_tested_are_told(checkout: Path, tmp_path: Path) -> None:
    source = {"PYTHONPATH": str(checkout / "src")}
    (checkout / "constraints.txt").write_text("jinja2==0.1  # old\nnot-installed==1\n")
    state, text = findings(tmp_path, 0, **source)["versions"]
    assert state == "note"
    assert text.startswith("jinja2 3.")
    assert text.endswith("(tested with 0.1)")
    (checkout / "constraints.txt").unlink()
    assert "Unknown" in findings(tmp_path, 0, **source)["versions"][1]
