"""What the service is asked: how an input and its answer look in JSON, and how an input is decoded."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from . import inputs
from .inputs import Arrays

Prediction = dict[str, str | int | float]  # the class with its probability, or the target's number
Number = Annotated[float, Field(allow_inf_nan=False)]


def build_input(about: dict[str, Any]) -> Any:
    """The type of one input in JSON."""
    record = {
        column["name"]: next(iter(column["values"]), None) if "values" in column else column["mean"]
        for column in about["columns"]
    }
    text = f"a record of numbers, texts and nulls by column: {', '.join(record)}; what is left out is missing"
    value = dict[str, Number | str | bool | None]
    return Annotated[value, Field(description=text, max_length=len(record) + 1, examples=[record])]


def count_signs(about: dict[str, Any]) -> dict[bytes, int]:
    """How often signs of JSON may stand in one input, texts included."""
    return dict.fromkeys((b"{", b":", b"[", b","), 1 + 8 * len(about["columns"]))


def decode(value: Any, about: dict[str, Any], budget: int) -> tuple[Arrays, int]:
    """One input, and how many bytes decoding took beyond those of its JSON: none.

    Whatever it raises means that this is no input.
    """
    if not isinstance(value, dict):
        raise TypeError("a record is needed, and no file")
    sample = inputs.decode(value, about)
    if np.isinf(sample["rows"]).any():
        raise ValueError("a number is too large")
    return sample, 0
