"""Splits: a sample keeps its own when others come, and folds are parts of what is not tested."""

import numpy as np
import pytest

from my_project import splits
from my_project.errors import UserError

NAMES = [f"cat/{number}.png" for number in range(400)]
GIVEN = {"train": np.arange(280), "val": np.arange(280, 340), "test": np.arange(340, 400)}


def named(names, fold=0, folds=0, given=None):
    """The names of the samples of train, val and test."""
    return [{names[i] for i in part} for part in splits.split(names, fold, folds, given)]


def test_samples_that_are_added_move_no_other():
    before = named(NAMES)
    after = named([*(f"dog/{number}.png" for number in range(900)), *NAMES])
    assert all(few <= many for few, many in zip(before, after, strict=True))
    assert 30 < len(before[1]) < 80
    assert 30 < len(before[2]) < 90


@pytest.mark.parametrize("given", [None, GIVEN])
def test_folds_are_parts_of_what_is_not_tested(given):
    folds = [named(NAMES, fold, 5, given) for fold in range(5)]
    tested = folds[0][2]
    assert all(test == tested for _, _, test in folds)
    assert all(train | val == {*NAMES} - tested for train, val, _ in folds)
    assert sum(len(val) for _, val, _ in folds) == len(NAMES) - len(tested)
    assert all(40 < len(val) < 100 for _, val, _ in folds)


def test_of_a_few_samples_each_split_has_one():
    assert all(named(NAMES[:number])[2] and named(NAMES[:number])[1] for number in range(3, 20))
    with pytest.raises(UserError, match="2 samples are too few for train, val and test: they would have 0, 1 and 1"):
        named(NAMES[:2])


def test_splits_that_are_given_stay():
    assert named(NAMES, given=GIVEN) == [{NAMES[i] for i in part} for part in GIVEN.values()]
    train, val, test = named(NAMES, given={"train": np.arange(300), "val": np.arange(300, 400)})
    assert val == {*NAMES[300:]}
    assert train | test == {*NAMES[:300]}


@pytest.mark.parametrize(("fold", "folds"), [(1, 0), (0, 1), (3, 3)])
def test_a_fold_that_there_is_not_is_said(fold, folds):
    with pytest.raises(UserError, match=f"data.fold={fold}, data.folds={folds}: give at least 2 folds"):
        splits.split(NAMES, fold, folds)


def test_a_class_that_cannot_be_learnt_is_said_and_one_that_cannot_be_measured_too(caplog):
    parts = np.array([0, 1, 2]), np.array([3]), np.array([4])
    splits.check_classes(parts, np.array([0, 0, 1, 0, 1]), ["cat", "dog"])
    assert "The val split has no sample of dog" in caplog.text
    with pytest.raises(UserError, match="too few samples of class dog: none is left to train on"):
        splits.check_classes(parts, np.array([0, 0, 0, 1, 1]), ["cat", "dog"])
