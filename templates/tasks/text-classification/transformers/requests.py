"""What the service is asked: how an input and its answer look in JSON, and how an input is decoded."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException
from pydantic import AfterValidator, BaseModel, Field

from .. import tokens

LETTERS = 16  # of a text, for each token that the model reads: more are refused before they are made tokens

Answer = Callable[[Any, list[Any]], Awaitable[Any]]  # from a model and samples to what `inputs.predictions` gives


class Prediction(BaseModel):
    """The most probable class of an input."""

    label: str
    index: int
    probability: float


def build_input(about: dict[str, Any]) -> Any:
    """The type of one input in JSON."""

    def check(text: str) -> str:
        if not text.strip():
            raise ValueError("a text needs a letter")
        text.encode()  # which lone surrogates cannot be
        return text

    most, description = LETTERS * about["max_tokens"], f"a text of at most {about['max_tokens']} tokens"
    bounds = Field(min_length=1, max_length=most, description=description, examples=["Bonjour"])
    return Annotated[str, bounds, AfterValidator(check)]


def count_signs(about: dict[str, Any]) -> dict[bytes, int]:
    """How often signs of JSON may stand in one input: a text may be all of them."""
    return dict.fromkeys((b"{", b":", b"[", b","), LETTERS * about["max_tokens"])


def decode(value: Any, about: dict[str, Any], budget: int) -> tuple[Any, int]:
    """One input, and how many bytes decoding took beyond those of its JSON: none.

    Whatever it raises means that this is no input.
    """
    if not isinstance(value, str):
        raise TypeError("a text is needed, and no file")
    return value, 0


def extend(app: FastAPI, reader: Any, answer: Answer) -> Answer:
    """Make texts tokens, beside the loop that answers. A text that `predict` would cut is refused."""

    def encode(model: Any, texts: list[str]) -> list[Any]:
        most = model.about["max_tokens"]
        rows = tokens.encode(texts, model.assets, most + 1)
        for i, row in enumerate(rows):
            if len(row) > most:
                raise HTTPException(422, f"inputs[{i}]: it has more than {most} tokens")
        return [{"tokens": row} for row in rows]

    async def encoded(model: Any, texts: list[str]) -> Any:
        return await answer(model, await asyncio.to_thread(encode, model, texts))

    return encoded
