"""What the service is asked: how an input and its answer look in JSON, and how an input is decoded."""

import base64
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from ..noise import MOST
from .inputs import Arrays, ask

Answer = Callable[[Any, list[Arrays]], Awaitable[Any]]  # from a model and samples to predictions
Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Asked(BaseModel):
    """A class, and a seed: the same seed always gives the same image."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(alias="class")
    seed: int = Field(0, ge=0, lt=MOST, strict=True)


class Prediction(BaseModel):
    """An image."""

    image: Base64 = Field(description="a PNG file")


def build_input(about: dict[str, Any]) -> Any:
    """The type of one input in JSON."""
    names: Any = Literal[tuple(about["classes"])]
    record = create_model("Asked", __base__=Asked, __doc__=Asked.__doc__, label=(names, Field(alias="class")))
    schema = record.model_json_schema() | {"examples": [{"class": about["classes"][0], "seed": 0}]}
    return Annotated[record, WithJsonSchema(schema)]


def count_signs(about: dict[str, Any]) -> dict[bytes, int]:
    """How often signs of JSON may stand in one input, texts included."""
    return dict.fromkeys((b"{", b":", b"[", b","), 4 + max(map(len, about["classes"])))


def decode(value: Any, about: dict[str, Any], budget: int) -> tuple[Arrays, int]:
    """One input, and how many bytes decoding took beyond those of its JSON: its noise.

    Whatever it raises means that this is no input.
    """
    asked = Asked.model_validate(value)
    sample = ask(about["classes"].index(asked.label), asked.seed, about)
    return sample, sample["noise"].nbytes


def extend(app: FastAPI, reader: Any, answer: Answer) -> Answer:
    """Add /image, which answers with the PNG file alone; /predict is answered as without it."""

    async def image(request: Request) -> Response:
        """One image, which is asked for as at /predict."""
        async with reader.samples(request) as (model, samples):
            if len(samples) != 1:
                raise HTTPException(422, "inputs: one image can be answered at a time")
            [prediction] = await answer(model, samples)
        return Response(base64.b64decode(prediction["image"]), media_type="image/png")

    body = {"requestBody": {"content": {"application/json": {"schema": reader.type.model_json_schema()}}}}
    app.add_route("/image", image, methods=["POST"])
    app.post("/image", response_class=Response, openapi_extra=body)(image)
    return answer
