"""What the service is asked: how an input and its answer look in JSON, and how an input is decoded."""

from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, Field

from .. import texts
from .inputs import Arrays


class Prediction(BaseModel):
    """The most probable class of an input."""

    label: str
    index: int
    probability: float


def build_input(about: dict[str, Any]) -> Any:
    """The type of one input in JSON. A text that `predict` would cut is refused: here, nobody would read so."""
    most = about["max_bytes"]

    def check(text: str) -> str:
        if not text.strip() or len(text.encode()) > most:
            raise ValueError(f"a text needs a letter, and has {most} bytes at most")
        return text

    description = f"a text of at most {most} bytes in UTF-8"
    bounds = Field(min_length=1, max_length=most, description=description, examples=["Bonjour"])
    return Annotated[str, bounds, AfterValidator(check)]


def count_signs(about: dict[str, Any]) -> dict[bytes, int]:
    """How often signs of JSON may stand in one input: a text may be all of them."""
    return dict.fromkeys((b"{", b":", b"[", b","), about["max_bytes"])


def decode(value: Any, about: dict[str, Any], budget: int) -> tuple[Arrays, int]:
    """One input, and how many bytes decoding took beyond those of its JSON: none.

    Whatever it raises means that this is no input.
    """
    if not isinstance(value, str):
        raise TypeError("a text is needed, and no file")
    [content] = texts.encode([value], about["max_bytes"], "text")
    return {"texts": np.frombuffer(content, np.uint8)}, 0
