"""Every technique that a reader expects is shown by a test, in both frameworks."""

import pytest

from tests.support.coverage import LATER, Shown, lacking, page, shown, techniques
from tests.support.projects import FRAMEWORKS


@pytest.fixture(scope="module")
def found() -> Shown:
    return shown()


def test_every_technique_is_shown_in_every_framework(found: Shown) -> None:
    assert lacking(found, FRAMEWORKS) == []


def test_marks_name_rows_and_frameworks_that_there_are(found: Shown) -> None:
    assert {number for number, _ in found} <= set(techniques())
    assert {name for _, name in found} <= set(FRAMEWORKS)


def test_a_row_without_a_framework_is_named_and_one_for_later_is_not(found: Shown) -> None:
    less = {key: tests for key, tests in found.items() if key != (1, FRAMEWORKS[0])}
    assert (1, FRAMEWORKS[0]) in lacking(less, FRAMEWORKS)
    assert not LATER & {number for number, _ in lacking({}, FRAMEWORKS)}


def test_the_page_has_a_line_for_each_technique(found: Shown) -> None:
    lines = page(found, FRAMEWORKS).splitlines()
    for number, technique in techniques().items():
        assert len([line for line in lines if line.startswith(f"| {number} | {technique} |")]) == 1
