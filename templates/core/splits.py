"""Which split a sample belongs to. Its name alone decides, so samples that are added move no other."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import LOG, UserError

HELD_OUT = 0.15  # share of the samples in the test split, and of the others in the validation split

Indices = NDArray[np.int64]


def split(
    names: Sequence[str], fold: int, folds: int, given: Mapping[str, Indices] | None = None
) -> tuple[Indices, Indices, Indices]:
    """The samples of train, val and test.

    `given` has those of the splits that there are; without it, all are for training, from which a missing split is
    taken. With `folds`, what is not tested is divided into so many parts, and the validation split is the one with
    number `fold`. Raises `UserError` where a split would be empty.
    """
    if fold >= max(folds, 1) or folds == 1:
        raise UserError(f"data.fold={fold}, data.folds={folds}: give at least 2 folds, and one of 0 to folds - 1.")
    parts = {"train": np.arange(len(names)), **(given or {})}
    places = np.array([place(name) for name in names])
    if "test" not in parts:
        parts["train"], parts["test"] = hold_out(parts["train"], places)
        places = (places - HELD_OUT) / (1 - HELD_OUT)
    if folds:
        known = np.concatenate((parts["train"], parts.get("val", parts["train"][:0])))
        held = (fold <= places[known] * folds) & (places[known] * folds < fold + 1)
        parts["train"], parts["val"] = known[~held], known[held]
    elif "val" not in parts:
        parts["train"], parts["val"] = hold_out(parts["train"], places)
    train, val, test = (parts[name] for name in ("train", "val", "test"))
    if not (len(train) and len(val) and len(test)):
        counts = f"they would have {len(train)}, {len(val)} and {len(test)}"
        raise UserError(f"data: {len(names)} samples are too few for train, val and test: {counts}. Add some.")
    return train, val, test


def hold_out(known: Indices, places: NDArray[np.float64]) -> tuple[Indices, Indices]:
    """Those whose place is below `HELD_OUT` go into the second part; of a few samples, one at least."""
    held = places[known] <= max(HELD_OUT, places[known].min(initial=1))
    return known[~held], known[held]


def place(name: str) -> float:
    """A number in 0..1, as if drawn at random, that follows from a name alone."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest()) / 2**64


#: if task in ["image-classification", "tabular"]
def stratified(count: int, labels: Indices | None) -> dict[str, Indices]:
    """Fixed splits of data that comes with the project, each with the same share of every class, if there are any."""
    from sklearn.model_selection import train_test_split  # which is slow to import, and not needed for own data

    rest = {"train": np.arange(count)}
    for name in ("test", "val"):
        known = None if labels is None else labels[rest["train"]]
        rest["train"], rest[name] = train_test_split(rest["train"], stratify=known, test_size=HELD_OUT, random_state=0)
    return rest


#: endif
def check_classes(parts: Sequence[Indices], labels: Indices, classes: Sequence[str]) -> None:
    """See that each class can be learnt; raises `UserError`. One that cannot be measured is said."""
    for name, part in zip(("train", "val", "test"), parts, strict=True):
        counts = np.bincount(labels[part], minlength=len(classes)).tolist()
        if missing := [label for label, count in zip(classes, counts, strict=True) if not count]:
            if name == "train":
                raise UserError(f"data: too few samples of class {missing[0]}: none is left to train on. Add some.")
            LOG.warning("The %s split has no sample of %s.", name, ", ".join(missing[:5]))
