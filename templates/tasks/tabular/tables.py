"""Tables of numbers and categories: how files are read, and how rows become numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from .errors import UserError, checked

Column = dict[str, Any]  # "name", and "mean" and "std" of a number or "values" of a category
MOST_VALUES = 200  # of a category, the most frequent ones; all others are unknown


def read(path: Path) -> pa.Table:
    """A CSV or Parquet file; raises `UserError` for one that cannot be read."""
    with checked(path, "Give a CSV file with a header, or a Parquet file."):
        return parquet.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)


def names(table: pa.Table, group: str) -> list[str]:
    """What rows are told apart by: a column, or without one all that stands in them."""
    chosen = [table.column(group)] if group else table.columns
    texts = [column.cast(pa.string()).fill_null("").to_pylist() for column in chosen]
    return ["\x1f".join(row) for row in zip(*texts, strict=True)]


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def describe(table: pa.Table) -> list[Column]:
    """What encodes the columns: of numbers mean and standard deviation, of categories their values."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if is_number(column.type):
            numbers = to_numbers(column)
            numbers = numbers[np.isfinite(numbers)]
            spread = float(numbers.std()) if len(numbers) else 0.0
            columns.append({"name": name, "mean": float(numbers.mean()) if len(numbers) else 0.0, "std": spread or 1.0})
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            counts = pc.value_counts(column.drop_null()).to_pylist()
            counts.sort(key=lambda entry: (-entry["counts"], entry["values"]))
            columns.append({"name": name, "values": [entry["values"] for entry in counts[:MOST_VALUES]]})
        else:
            raise UserError(f'column "{name}" holds {column.type}: give numbers or text, or name it in --data.ignore.')
    return columns


def to_numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of numbers; what is missing is NaN."""
    numbers: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return numbers


def encode(table: pa.Table, columns: list[Column]) -> NDArray[np.float32]:
    """Rows [N, C]: numbers as they are, NaN where they are missing; categories by their place, from 1.

    A category that is missing or was not in the training data is 0. Columns that are not in the table are missing.
    """
    rows = np.full((len(table), len(columns)), np.nan, np.float32)
    for i, column in enumerate(columns):
        given = table.column(column["name"]) if column["name"] in table.column_names else None
        if "values" in column:
            places = {value: place for place, value in enumerate(column["values"], start=1)}
            rows[:, i] = 0 if given is None else [places.get(value, 0) for value in given.cast(pa.string()).to_pylist()]
        elif given is not None:
            with checked(f'column "{column["name"]}"', "It has to hold numbers."):
                rows[:, i] = to_numbers(given)
    return rows


def encode_record(record: dict[str, Any], columns: list[Column]) -> NDArray[np.float32]:
    """One row [C] from plain values by column, encoded as `encode` does, in microseconds instead of milliseconds."""
    row = np.full(len(columns), np.nan)
    for i, column in enumerate(columns):
        value, values = record.get(column["name"]), column.get("values")
        if values is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0")
            row[i] = 0 if value is None or text not in values else values.index(text) + 1
        elif value is not None:
            try:
                row[i] = float(value)
            except ValueError:
                raise UserError(f'column "{column["name"]}": it has to hold numbers.') from None
    with np.errstate(over="ignore"):
        return row.astype(np.float32)
