"""The data: rows of a table, with numbers and categories, of which some may be missing."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from sklearn import datasets
from torch import Tensor

from .. import splits, tables
from ..errors import LOG, UserError
from ..interface import Batch, Data
from .settings import DataConfig

MOST_CLASSES = 20  # different whole numbers that are still taken for classes

Rows = NDArray[Any]


class Table:
    """A source of rows in memory: numbers [N, C] float32, as `tables.encode` makes them, with targets [N]."""

    def __init__(self, rows: Rows, targets: Rows) -> None:
        self.rows, self.targets = torch.from_numpy(rows), torch.from_numpy(targets)
        self.nbytes = self.rows.nbytes
        self.fingerprint = hashlib.sha256(rows.tobytes() + targets.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """`row` [B, C], and `target` [B]: class or number."""
        return {"row": self.rows[indices], "target": self.targets[indices]}


def open_data(cfg: DataConfig) -> Data:
    """The three splits. Raises `UserError` for a file or a column that cannot be used."""
    table = tables.read(cfg.path) if cfg.path else load_example(cfg.example)
    ignored = [name for name in (*cfg.ignore.split(","), cfg.group) if name]
    if missing := [name for name in (cfg.target, *ignored) if name not in table.column_names]:
        known = ", ".join(table.column_names)
        raise UserError(f'{cfg.path or cfg.example} has no column "{missing[0]}". Columns: {known}. Set --data.target.')
    known_rows = table.column(cfg.target).is_valid()
    if dropped := len(table) - sum(known_rows.to_pylist()):
        LOG.warning("%d of %d rows are left out, as they have no %s.", dropped, len(table), cfg.target)
    table = table.filter(known_rows)
    target, features = table.column(cfg.target), table.drop_columns([cfg.target, *ignored])
    about, targets = describe_target(target, cfg)
    classes = targets if "classes" in about else None
    given = None if cfg.path else splits.stratified(len(table), classes)
    parts = splits.split(tables.names(table, cfg.group), cfg.fold, cfg.folds, given)
    if classes is not None:
        splits.check_classes(parts, classes, about["classes"])
    about["columns"] = tables.describe(features.take(parts[0]))
    rows = tables.encode(features, about["columns"])
    if "classes" not in about:
        about["scale"] = [float(targets[parts[0]].mean()), float(targets[parts[0]].std()) or 1.0]
        about["range"] = [float(targets[parts[0]].min()), float(targets[parts[0]].max())]
    train, val, test = (Table(rows[part], targets[part]) for part in parts)
    return Data(train, val, test, about, {})


def load_example(name: str) -> pa.Table:
    """A data set of scikit-learn, with the names of its classes as target."""
    bunch = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    target = bunch.target if name == "diabetes" else bunch.target_names[bunch.target]
    columns = [*bunch.data.T, target]
    return pa.table(
        {str(key): pa.array(column) for key, column in zip([*bunch.feature_names, "target"], columns, strict=True)}
    )


def describe_target(target: pa.ChunkedArray, cfg: DataConfig) -> tuple[dict[str, Any], Rows]:
    """What the model has to know of the target, and its values: indices of classes, or numbers."""
    numeric = tables.is_number(target.type)
    values = target.to_pylist()
    whole = numeric and len(set(values)) <= MOST_CLASSES and all(float(value).is_integer() for value in values)
    kind = cfg.kind if cfg.kind != "auto" else "regression" if numeric and not whole else "classification"
    if kind == "regression":
        if not numeric:
            raise UserError(f"data.target={cfg.target}: its values are {target.type}, which is no number.")
        return {"target": cfg.target}, np.array(values, np.float32)
    classes = sorted(set(map(str, values)))
    if len(classes) < 2:
        raise UserError(f"data.target={cfg.target}: all rows have the same class, {classes}. Give another column.")
    index = {name: number for number, name in enumerate(classes)}
    return {"target": cfg.target, "classes": classes}, np.array([index[str(value)] for value in values], np.int64)
