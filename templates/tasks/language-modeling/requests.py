"""What the service is asked: how an input and its answer look in JSON, and how an input is decoded."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, WithJsonSchema, create_model

from .. import streaming
from ..generation import Prompt


class Prediction(BaseModel):
    """How a prompt goes on."""

    text: str
    tokens: int = Field(description="how many were added, the end of the text included")
    cut: int = Field(description="tokens at the beginning of the prompt that the model did not see")


def build_input(about: dict[str, Any]) -> Any:
    """The type of one input in JSON."""
    text = Annotated[str, Field(max_length=longest(about), description="the beginning of a text")]
    record = create_model("Prompt", __base__=Prompt, __doc__=Prompt.__doc__, prompt=(text, ...))
    both = [TypeAdapter(text).json_schema(), record.model_json_schema()]
    example = {"prompt": "The ", "max_tokens": 32, "temperature": 0.8}
    return Annotated[text | record, WithJsonSchema({"anyOf": both, "examples": [example]})]


def longest(about: dict[str, Any]) -> int:
    """Characters of a prompt: several times what the model can see."""
    return 16 * int(about["window"])


def count_signs(about: dict[str, Any]) -> dict[bytes, int]:
    """How often signs of JSON may stand in one input, texts included."""
    return dict.fromkeys((b"{", b":", b"[", b","), 8 + longest(about))


def decode(value: Any, about: dict[str, Any], budget: int) -> tuple[Any, int]:
    """One input, and how many bytes decoding took beyond those of its JSON: none.

    Whatever it raises means that this is no input.
    """
    if isinstance(value, bytes):
        raise TypeError("a prompt is needed, and no file")
    return Prompt(prompt=value) if isinstance(value, str) else Prompt.model_validate(dict(value)), 0


extend = streaming.extend  # the service asks the model for each token, and has /stream
