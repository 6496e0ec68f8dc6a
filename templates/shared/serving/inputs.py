"""What a request holds, and what is answered: images as arrays or files, predictions."""

import base64
import io
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..data import WHITE, Shape, load_image
from ..export import Pixels

Image.MAX_IMAGE_PIXELS = 12_500_000  # Pillow refuses files of twice as many, before it unpacks them

Pixel = Annotated[int, Field(strict=True, ge=0, le=WHITE)]
Row = Annotated[list[Pixel], Field(fail_fast=True)]
Array = Annotated[list[Annotated[list[Row], Field(fail_fast=True)]], Field(fail_fast=True)]


class Inputs(BaseModel):
    """One input or several: each an array of bytes [channels][height][width], or an image file in base64."""

    model_config = ConfigDict(extra="forbid")
    inputs: Annotated[list[Array | str], Field(min_length=1, fail_fast=True)]


class Prediction(BaseModel):
    """The most probable class of an input."""

    label: str
    index: int
    probability: float


class Predictions(BaseModel):
    """As many as there were inputs, in their order."""

    predictions: list[Prediction]


class InputError(ValueError):
    """What is wrong with an input, in words that can be sent back."""


def parse_inputs(body: bytes) -> list[Array | str]:
    """The inputs in a body of JSON; raises `InputError`."""
    try:
        return Inputs.model_validate_json(body).inputs
    except ValidationError as error:
        raise InputError(explain(error.errors(include_url=False, include_input=False))) from None


def explain(errors: Sequence[Any]) -> str:
    """The first mistake that a validator found, without a word of what was sent."""
    deepest = max(errors, key=lambda error: len(error["loc"]))
    place = "".join(f"[{part}]" for part in deepest["loc"] if isinstance(part, int))
    return f"inputs{place}: {deepest['msg']}"


def decode(inputs: Sequence[Array | str | bytes], shape: Shape, most: int) -> Pixels:
    """The images of a request [B, C, H, W]; raises `InputError`."""
    if not 1 <= len(inputs) <= most:
        raise InputError(f"a request takes 1 to {most} inputs, and this one has {len(inputs)}")
    images = np.empty((len(inputs), *shape), np.uint8)
    for i, value in enumerate(inputs):
        try:
            images[i] = _decode_array(value, shape) if isinstance(value, list) else _decode_file(value, shape)
        except Exception:  # a file from outside can fail in any of Pillow's ways
            raise InputError(f"inputs[{i}]: an array of shape {list(shape)} or an image is needed") from None
    return images


def _decode_array(value: Array, shape: Shape) -> Pixels:
    array = np.array(value, np.uint8)  # rows of different lengths fail here
    if array.shape != shape:
        raise ValueError(array.shape)
    return array


def _decode_file(value: str | bytes, shape: Shape) -> Pixels:
    content = base64.b64decode(value, validate=True) if isinstance(value, str) else value
    return load_image(io.BytesIO(content), shape).numpy()
