"""A proof is kept while nothing has changed that its test reads, and is not trusted when anything has."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.releases import clean_settings, copy_files

TESTS = """
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.a_helper import answer
from tests.support.projects import by_framework, offered, rendered
from tests.support.proofs import once
from tests.support.releases import ROOT


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs/precision.md").read_text()


@once
def of_framework(framework: str) -> str:
    return str(rendered({"framework": framework}).files)


def test_a_page(page: str) -> None:
    assert page


def test_the_same_page(page: str) -> None:
    assert page


def test_a_folder() -> None:
    assert list((ROOT / "docs/benchmarks").iterdir())


def test_nothing() -> None:
    assert answer


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
@pytest.mark.parametrize("time", ["first", "second"])
def test_a_project(framework: str, time: str) -> None:
    assert of_framework(framework)


def test_every_project() -> None:
    assert offered()


def test_the_tool() -> None:
    subprocess.run([sys.executable, "-m", "mlscaffold", "--version"], check=True)


def test_that_fails() -> None:
    assert not answer
"""
EVERY = "return [*catalogue.combinations(), *outside(catalogue)]"
PAGE = {"test_a_page", "test_the_same_page"}
LIGHTNING = {"test_a_project[first-lightning]", "test_a_project[second-lightning]"}
IGNITE = {"test_a_project[first-ignite]", "test_a_project[second-ignite]"}
PASSING = {"test_a_folder", "test_nothing", "test_every_project", "test_the_tool", *PAGE, *LIGHTNING, *IGNITE}
FAILING = {"test_that_fails"}

Run = Callable[..., set[str]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository with a few tests of its own."""
    copy = copy_files(tmp_path_factory.mktemp("repository"), whole=True)
    (copy / "tests/support/a_helper.py").write_text("answer = 42\n")
    (copy / "tests/template/test_inputs.py").write_text(TESTS)
    plan = copy / "tests/matrix/plan.py"  # every project, of which one is enough here
    plan.write_text(plan.read_text().replace(EVERY, "return [{}]"))
    assert run(copy) == PASSING | FAILING
    return copy


def own(copy: Path) -> dict[str, str]:
    """Environment variables for its tests, of which nothing of this run of ours is known."""
    ours = ("MLSCAFFOLD_TEST", "FRESH")
    kept = {name: value for name, value in clean_settings().items() if not name.startswith(ours)}
    return kept | {"PYTHONPATH": str(copy / "src")}


def run(copy: Path, **settings: str) -> set[str]:
    """Run its tests; return the names of those that were not left out."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-v", "tests/template/test_inputs.py"],
        cwd=copy,
        env=own(copy) | {"COLUMNS": "200"} | settings,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if "::" in line and "%]" in line]
    assert all((name.endswith("fails")) == (result == "FAILED") for name, result, *_ in lines), done.stdout
    return {name.partition("::")[2] for name, *_ in lines}


@contextmanager
def changed(path: Path, old: str = "", new: str = "\n") -> Iterator[None]:
    """Change a file for a while; without `old`, at its end."""
    before = path.read_text() if path.exists() else None
    text = before or ""
    assert old in text
    path.write_text(text.replace(old, new, 1) if old else text + new)
    yield
    path.unlink() if before is None else path.write_text(before)


def test_what_has_passed_is_left_out_and_what_failed_is_not(repository: Path) -> None:
    assert run(repository) == FAILING


def test_fresh_runs_all(repository: Path) -> None:
    assert run(repository, FRESH="1") == PASSING | FAILING


@pytest.mark.parametrize(
    ("name", "old", "new", "again"),
    [
        ("docs/precision.md", "", "\n", PAGE),
        ("docs/serving.md", "", "\n", set()),
        ("docs/benchmarks/new.md", "", "x", {"test_a_folder"}),
        ("tests/support/a_helper.py", "42", "43", PASSING),
        ("tests/template/test_inputs.py", "assert page", "assert  page", PASSING),
        ("tests/support/endings.py", "", "\n", set()),
        ("constraints.txt", "torch==", "torch ==", PASSING),
        ("copier.yml", "", "\n# more\n", PASSING),
        (
            "templates/frameworks/ignite/engine.py",
            "The two engines",
            "Two engines",
            {"test_every_project", *IGNITE},
        ),
        ("src/mlscaffold/catalogue/choose.py", "", "\n", set()),
        ("pyproject.toml", "", "\n", set()),
    ],
)
def test_a_change_runs_what_has_read_it(
    repository: Path, name: str, old: str, new: str, again: set[str]
) -> None:
    of_tool = name.startswith(("templates/", "src/", "pyproject"))
    with changed(repository / name, old, new):
        assert run(repository) == again | FAILING | ({"test_the_tool"} if of_tool else set())


def test_after_changes_that_were_taken_back_all_is_proven_as_before(repository: Path) -> None:
    assert run(repository) == FAILING


def test_another_machine_has_proven_nothing(repository: Path, tmp_path: Path) -> None:
    program = tmp_path / "zsh"  # of another size
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert run(repository, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}") == PASSING | FAILING


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "of another test"])
def test_a_proof_that_is_damaged_is_not_trusted(repository: Path, harm: str) -> None:
    proofs = {path: path.read_text() for path in (repository / ".proofs").glob("*.json")}
    other = next(text for text in proofs.values() if "test_nothing" in text)
    ours = {path: text for path, text in proofs.items() if "test_a_folder" in text}
    for path, text in ours.items():  # several, as the code has changed
        flipped = chr(ord(text[100]) ^ 1)
        harmed = {"cut": text[:-20], "emptied": "", "of another test": other}
        path.write_text(harmed.get(harm, text[:100] + flipped + text[101:]))
    assert run(repository) == {"test_a_folder"} | FAILING
    assert run(repository) == FAILING


def test_nothing_is_kept_of_a_run_in_which_a_file_was_changed(repository: Path) -> None:
    module = repository / "tests/template/test_inputs.py"
    edits = "\n\ndef test_edits() -> None:\n    (ROOT / 'docs/notes.txt').write_text('x')\n"
    with changed(module, "", edits):
        names = run(repository)
        assert names == PASSING | FAILING | {"test_edits"}
        (repository / "docs/notes.txt").unlink()
        assert run(repository) == {"test_edits"} | FAILING  # others had ended before it


def test_tests_that_no_signal_ends_are_named_with_their_stacks_and_others_run(repository: Path) -> None:
    """Two at once, which ends pytest-xdist as it is."""
    module = repository / "tests/template/test_hangs.py"
    module.write_text(
        "import signal, time\n\nimport pytest\n\n\n@pytest.mark.timeout(1)\n"
        "@pytest.mark.parametrize('number', range(2))\ndef test_hangs(number: int) -> None:\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n    time.sleep(1000)\n\n\n"
        "@pytest.mark.parametrize('number', range(8))\ndef test_works(number: int) -> None:\n    pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-v", str(module)],
        cwd=repository,
        env=own(repository),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    module.unlink()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 8 passed" in done.stdout  # none of them twice
    assert 'test_hangs.py", line 10 in test_hangs' in done.stdout + done.stderr
    crashed = re.findall(r"^worker '\w+' crashed while running '(.*)'$", done.stdout, re.MULTILINE)
    hung = [f"tests/template/test_hangs.py::test_hangs[{number}]" for number in range(2)]
    assert sorted(crashed) == hung, done.stdout  # the summary repeats them at the end of other lines
