"""What the service is asked: how an input and its answer look in JSON, and how an input is decoded."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from .. import images, uploads
from .inputs import Arrays

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="  # gray, in a PNG


class Prediction(BaseModel):
    """The labels of an input, and the probability of every label."""

    labels: list[str]
    probabilities: dict[str, float]


def build_input(about: dict[str, Any]) -> Any:
    """The type of one input in JSON."""
    array: Any = Annotated[int, Field(strict=True, ge=0, le=images.WHITE)]
    for size in reversed(about["shape"]):
        array = Annotated[list[array], Field(min_length=size, max_length=size, fail_fast=True)]
    text = "an array of bytes [channels][height][width], or an image file in base64"
    return Annotated[array | uploads.Base64, Field(description=text, examples=[PIXEL])]


def count_signs(about: dict[str, Any]) -> dict[bytes, int]:
    """How often signs of JSON may stand in one input; a `{`, `:`, `[` or `,` that is not named, never."""
    channels, height, width = about["shape"]
    return {b"[": 1 + channels + channels * height, b",": channels * height * width - 1}


def decode(value: Any, about: dict[str, Any], budget: int) -> tuple[Arrays, int]:
    """One input, in JSON or the content of a file, and how many bytes decoding took: at most `budget`.

    Whatever it raises means that this is no input.
    """
    pixels, size = uploads.decode(value, tuple(about["shape"]), budget)
    return {"images": pixels}, size
