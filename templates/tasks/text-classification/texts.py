"""Texts: how files of them are read, and how they become bytes in batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, json, parquet

from .errors import LOG, UserError, checked

FILES = (".csv", ".jsonl", ".parquet")
FILL = 0  # what fills rows up; no text has this byte
BLOCK = 2**26  # bytes of a file that are read at a time; no row may be longer

Bytes = NDArray[np.uint8]


def read(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """These columns of a table, as texts; what is missing is empty. Raises `UserError` for what cannot be used."""
    with checked(path, f"Give a file with a name in {', '.join(FILES)}: CSV with a header, JSON lines or Parquet."):
        table = _load(path, columns)
    if missing := [name for name in columns if name not in table.column_names]:
        known = ", ".join(table.column_names)
        raise UserError(f'{path} has no column "{missing[0]}". Columns: {known}. Set --data.text and --data.label.')
    found = []
    for name in columns:
        with checked(f'{path}: column "{name}"', "It has to hold texts."):
            found.append(table.column(name).cast(pa.string()).fill_null("").to_pylist())
    return found


def _load(path: Path, columns: Sequence[str]) -> pa.Table:
    if path.suffix == ".parquet":
        return parquet.read_table(path)
    if path.suffix == ".jsonl":
        return json.read_json(path, json.ReadOptions(block_size=BLOCK))
    types: Any = dict.fromkeys(columns, pa.string())  # 007 is no number
    options = csv.ReadOptions(block_size=BLOCK), csv.ParseOptions(newlines_in_values=True)
    return csv.read_csv(path, *options, csv.ConvertOptions(column_types=types))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; raises `UserError` for one that cannot be read."""
    with checked(path, "Give a file of lines in UTF-8."):
        return path.read_text("utf-8-sig").removesuffix("\n").split("\n")


def encode(texts: Sequence[str], most: int, source: object) -> list[bytes]:
    """Texts in UTF-8, of `most` bytes at most, whole letters; how many were cut is said.

    Raises `UserError` for an empty one.
    """
    contents = [text.strip().replace("\0", " ").encode(errors="replace") for text in texts]
    if empty := [row for row, content in enumerate(contents, start=1) if not content]:
        many = f"{len(empty)} of {len(contents)} texts are empty, the first in row {empty[0]}"
        raise UserError(f"{source}: {many}. Leave them out." if len(contents) > 1 else f"{source}: the text is empty.")
    if long := sum(len(content) > most for content in contents):
        LOG.warning("%s: %d of %d texts are longer than %d bytes and are cut.", source, long, len(contents), most)
    return [content[:most].decode(errors="ignore").encode() if len(content) > most else content for content in contents]


def fill(contents: Sequence[bytes | Bytes]) -> Bytes:
    """One row of bytes for each text, filled up to the longest [N, L]."""
    rows = np.full((len(contents), max(map(len, contents))), FILL, np.uint8)
    for row, content in zip(rows, contents, strict=True):
        row[: len(content)] = np.frombuffer(content, np.uint8)
    return rows
