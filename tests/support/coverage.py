"""Which test shows which technique: `python -m tests.support.coverage` writes docs/coverage.md.

The techniques are in techniques.tsv; a test carries `@pytest.mark.row(number, framework)`.
"""

import csv
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.projects import FRAMEWORKS
from tests.support.releases import ROOT

PAGE = ROOT / "docs/coverage.md"
LATER = {25, 31}  # rows whose techniques are yet to come

Shown = dict[tuple[int, str], list[str]]  # names of tests, by row and framework


def techniques() -> dict[int, str]:
    with (ROOT / "tests/support/techniques.tsv").open(encoding="utf-8") as file:
        return {int(row["number"]): row["technique"] for row in csv.DictReader(file, delimiter="\t")}


class Collector:
    """A plugin of pytest that notes the marks of all tests."""

    def __init__(self, note: Path) -> None:
        self.note = note

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        lines = {
            f"{mark.args[0]}\t{mark.args[1]}\t{item.nodeid.partition('[')[0]}\n"
            for item in session.items
            for mark in item.iter_markers("row")
        }
        self.note.write_text("".join(sorted(lines)))


def shown() -> Shown:
    """Collect all tests in a process of its own, and see what they are marked with."""
    found: Shown = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "marks.tsv"
        command = (sys.executable, "-m", "tests.support.coverage", "--collect", str(note))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
        if done.returncode:
            raise RuntimeError(f"pytest cannot collect the tests:\n{done.stdout}{done.stderr}")
        for line in note.read_text().splitlines():
            row, framework, test = line.split("\t")
            found[int(row), framework].append(test.removeprefix("tests/"))
    return found


def page(shown: Shown, frameworks: list[str]) -> str:
    lines = [
        "# Techniques and the tests that show them",
        "",
        "Written by `make matrix` and `python -m tests.support.coverage`; do not edit. Each test runs the",
        "technique in a generated project.",
        "",
        f"| # | technique | {' | '.join(frameworks)} |",
        f"|--:|---|{'---|' * len(frameworks)}",
    ]
    for number, technique in techniques().items():
        cells = ["<br>".join(f"`{test}`" for test in shown[number, name]) for name in frameworks]
        later = "comes later" if number in LATER else ""
        lines.append(f"| {number} | {technique} | {' | '.join(cell or later for cell in cells)} |")
    return "\n".join([*lines, ""])


def lacking(shown: Shown, frameworks: list[str]) -> list[tuple[int, str]]:
    """The rows, but for those that come later, that no test shows in a framework."""
    due = [number for number in techniques() if number not in LATER]
    return [(number, name) for number in due for name in frameworks if not shown.get((number, name))]


def write() -> None:
    PAGE.write_text(page(shown(), FRAMEWORKS), encoding="utf-8")


def main() -> None:
    if sys.argv[1:2] == ["--collect"]:
        options = ["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        os.environ.pop("PYTEST_ADDOPTS", None)
        sys.exit(pytest.main([*options, str(ROOT / "tests")], plugins=[Collector(Path(sys.argv[2]))]))
    write()


if __name__ == "__main__":
    main()
