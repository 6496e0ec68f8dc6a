"""What the trained model is asked and what it answers: shared by `predict`, `export` and the service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import tables
from ..errors import UserError
from ..interface import Batch
from .settings import DataConfig

Arrays = dict[str, NDArray[Any]]  # by name; of a batch, samples come first

INPUTS, OUTPUTS = ("rows",), ("answers",)  # of `Exported`, in order
DYNAMIC = {"rows": {0: "batch"}, "answers": {0: "batch"}}  # axes whose length varies, and a word for each
TOLERANCE = 1e-4  # how far an exported model's answers may differ from the plain model's


class Exported(nn.Module):
    """What is exported: from rows [B, C], see `tables.encode`, to probabilities [B, num_classes] or numbers [B]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, rows: Tensor) -> Tensor:
        answers: Tensor = self.net(rows).float()
        return answers.softmax(dim=1) if answers.ndim > 1 else answers


def example(about: dict[str, Any], size: int = 2) -> Arrays:
    """Made-up rows that are the same everywhere, to trace a model with and to check it: each third value is missing."""
    places = np.arange(size)[:, None] * 7 + np.arange(len(about["columns"]))
    rows = np.empty(places.shape, np.float32)
    for i, column in enumerate(about["columns"]):
        if "values" in column:
            rows[:, i] = places[:, i] % (len(column["values"]) + 1)
        else:
            numbers = column["mean"] + column["std"] * (places[:, i] % 5 - 2)
            rows[:, i] = np.where(places[:, i] % 3 == 0, np.nan, numbers)
    return {"rows": rows}


def differ(expected: Arrays, answers: Arrays) -> NDArray[Any]:
    """By how much each answer differs from what is expected: infinitely in its class; a large number by its share."""
    old, new = expected["answers"], answers["answers"]
    if old.ndim == 1:
        return np.asarray(np.abs(new - old) / np.maximum(1, np.abs(old)))
    return np.where(old.argmax(axis=1) == new.argmax(axis=1), np.abs(new - old).max(axis=1), np.inf)


def from_batch(batch: Batch) -> Arrays:
    """What the model would be asked for the samples of a source."""
    return {"rows": batch["row"].numpy()}


def read(argument: str, about: dict[str, Any], cfg: DataConfig) -> Iterator[tuple[str, Arrays]]:
    """Name and content of each row that an argument of `predict` stands for: of a CSV or Parquet file, or a record."""
    if argument.lstrip().startswith("{"):
        yield "record", decode(json.loads(argument), about)
        return
    table = tables.read(Path(argument).expanduser())
    rows = tables.encode(table, about["columns"])
    yield from ((f"{argument}[{i}]", {"rows": row}) for i, row in enumerate(rows))


def decode(record: dict[str, Any], about: dict[str, Any]) -> Arrays:
    """A record of values by column; columns that it lacks, and nulls, are missing. Raises `UserError` for others."""
    names = {column["name"] for column in about["columns"]}
    if unknown := sorted(record.keys() - names - {about["target"]}):
        raise UserError(f"{unknown[0]}: there is no such column. Columns: {', '.join(sorted(names))}.")
    return {"rows": tables.encode_record(record, about["columns"])}


def collate(samples: list[Arrays]) -> Arrays:
    """One batch of several inputs."""
    return {name: np.stack([sample[name] for sample in samples]) for name in INPUTS}


def predictions(answers: Arrays, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The most probable class of each row, or its number."""
    rows = answers["answers"]
    if "classes" not in about:
        return [{about["target"]: round(float(value), 6)} for value in rows]
    best = enumerate(rows.argmax(axis=1).tolist())
    return [{"label": about["classes"][i], "index": i, "probability": round(rows.item(n, i), 6)} for n, i in best]
