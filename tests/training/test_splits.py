"""A user's samples keep their split when others come, and folds are parts of what is not tested."""

from pathlib import Path

import numpy as np
import pytest

from mlscaffold.catalogue.questions import Answers
from tests.support.projects import FRAMEWORKS, Project, rendered, write

TASKS = ("image-classification", "segmentation", "tabular", "text-classification")
FOLDS = """
from my_project.task.data import open_data
from my_project.task.settings import DataConfig

whole = open_data(DataConfig())
folds = [open_data(DataConfig(fold=fold, folds=4)) for fold in range(4)]
for data in folds:
    assert data.test.fingerprint == whole.test.fingerprint
    assert len(data.train) + len(data.val) == len(whole.train) + len(whole.val)
assert sum(len(data.val) for data in folds) == len(whole.train) + len(whole.val)
assert len({data.val.fingerprint for data in folds}) == 4
"""
ADDED = """
import sys
from pathlib import Path
from my_project.task.data import open_data
from my_project.task.settings import DataConfig

def rows(source):
    return {tuple(row) for row in source.batch([*range(len(source))], None)["row"].tolist()}

few, many = (open_data(DataConfig(path=Path(path), target="y", kind="regression")) for path in sys.argv[1:])
assert len(many.test) > len(few.test) > 20
for ours, theirs in zip(few[:3], many[:3], strict=True):
    assert rows(ours) < rows(theirs)
"""


@pytest.mark.parametrize("task", TASKS)
def test_folds_are_parts_of_what_is_not_tested_of_data_that_comes_with_a_project(
    task: str, tmp_path: Path
) -> None:
    project_of(task, FRAMEWORKS[0], tmp_path).run_fork("-c", FOLDS)


def project_of(task: str, framework: str, folder: Path) -> Project:
    answers: Answers = {"task": task, "framework": framework, "loggers": []}
    return Project(write(rendered(answers), folder), "my_project")


def test_rows_that_are_added_to_a_table_move_no_other(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).random((600, 3)).round(6)
    for name, count in {"few.csv": 200, "many.csv": 600}.items():
        lines = [",".join(map(str, row)) for row in numbers[600 - count :]]
        (tmp_path / name).write_text("\n".join(["a,b,y", *lines]) + "\n")
    project = project_of("tabular", FRAMEWORKS[0], tmp_path / "p")
    project.run_fork("-c", ADDED, tmp_path / "few.csv", tmp_path / "many.csv")


def test_evaluate_says_which_run_it_took_and_that_there_is_more_data_now(tmp_path: Path) -> None:
    project = project_of("text-classification", FRAMEWORKS[-1], tmp_path)
    for name, count in {"few.csv": 100, "many.csv": 300}.items():
        lines = [f"{word} {number},{word}" for number in range(count) for word in ("ja", "nein")]
        (tmp_path / name).write_text("\n".join(["text,label", *lines]) + "\n")
    project.run_fork("-m", "my_project.train", "--data.path", "few.csv", "--max_steps", "2")
    same = project.start_fork("-m", "my_project.evaluate")
    more = project.start_fork("-m", "my_project.evaluate", "--data.path", "many.csv")
    assert same.stderr == "run=runs/0001, the newest with weights\n"
    assert "runs/0001: the training split has other samples now" in more.stderr
    assert "test/accuracy" in more.stdout
