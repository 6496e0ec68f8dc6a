"""What the service is asked: how an input and its answer look in JSON, and how an input is decoded."""

import base64
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field

from .. import images, uploads
from .inputs import Arrays

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="  # gray, in a PNG


Answer = Callable[[Any, list[Arrays]], Awaitable[Any]]  # from a model and samples to predictions


class Prediction(BaseModel):
    """The class of each pixel."""

    mask: uploads.Base64 = Field(description="a PNG file, whose pixels are class numbers")
    shares: dict[str, float] = Field(description="the share of the pixels that each class has")
    confidence: float = Field(description="the mean probability of the pixels' classes")


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


def extend(app: FastAPI, reader: Any, answer: Answer) -> Answer:
    """Add /mask, which answers with the PNG file alone; /predict is answered as without it."""

    async def mask(request: Request) -> Response:
        """The mask of one image, which is asked for as at /predict."""
        async with reader.samples(request) as (model, samples):
            if len(samples) != 1:
                raise HTTPException(422, "inputs: one mask can be answered at a time")
            [prediction] = await answer(model, samples)
        return Response(base64.b64decode(prediction["mask"]), media_type="image/png")

    body = {"requestBody": {"content": {"application/json": {"schema": reader.type.model_json_schema()}}}}
    app.add_route("/mask", mask, methods=["POST"])
    app.post("/mask", response_class=Response, openapi_extra=body)(mask)
    return answer
