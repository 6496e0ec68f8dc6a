"""What is asked and answered: images as arrays or files, predictions, and what the service tells about itself."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from pydantic import ConfigDict, Field, ValidationError, create_model
from starlette.requests import ClientDisconnect

from ..data import FORMATS, WHITE, Shape, load_image
from ..export import Model, Pixels
from . import monitoring
from .settings import Settings

SCANS = 20  # of a JPEG, each of which takes time for all of its pixels; it has half as many, or fewer
WIDTH, LENGTH = 322, 323  # TIFF's tags for the size of a tile, which may be larger than the image
CLOSE = {"connection": "close"}  # what is left of a body is not worth reading
LATER = {"retry-after": "1"}  # seconds
POLICY = {"content-security-policy": "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"}
POOL = ThreadPoolExecutor(2, "images")  # opens files beside the event loop and the model

Answer = Callable[[Pixels], Awaitable[Any]]


class Reader:
    """Reads requests to a model that takes images of this shape; raises `HTTPException` for what is none."""

    def __init__(self, shape: Shape, settings: Settings) -> None:
        self.shape, self.settings, self.most = shape, settings, settings.max_batch
        array: Any = Annotated[int, Field(strict=True, ge=0, le=WHITE)]
        for size in reversed(shape):
            array = Annotated[list[array], Field(min_length=size, max_length=size, fail_fast=True)]
        inputs = Annotated[list[array | str], Field(min_length=1, max_length=self.most, fail_fast=True)]
        about = "One input or several: each an array of bytes [channels][height][width], or an image file in base64."
        self.type: Any = create_model("Inputs", __doc__=about, __config__=ConfigDict(extra="forbid"), inputs=inputs)
        lists = 1 + self.most * (1 + shape[0] + shape[0] * shape[1])
        self.signs = {b"{": 1, b":": 1, b"[": lists, b",": self.most * int(np.prod(shape))}
        self.waiting = self.held = 0  # requests with images, bytes of bodies
        monitoring.watch_queue(lambda: self.waiting)

    @asynccontextmanager
    async def images(self, request: Request) -> AsyncIterator[Pixels]:
        """The images of a request [B, C, H, W], which counts as long as they are worked with."""
        body, largest = bytearray(), int(self.settings.max_body_mb * 2**20)
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                async for part in request.stream():  # may be longer than was announced, or not announced at all
                    body += part
                    self.held += len(part)
                    if len(body) > largest:
                        raise HTTPException(413, f"a body has {largest} bytes at most", CLOSE)
                    if self.held > 32 * largest:  # of all requests together
                        raise HTTPException(429, "too much is being sent", LATER | CLOSE)
            if self.waiting >= self.settings.max_queue:
                raise HTTPException(429, "too many requests are waiting", LATER)
            self.waiting += 1
            try:
                yield await self.read(request, bytes(body))
            finally:
                self.waiting -= 1
        except (TimeoutError, ClientDisconnect) as error:
            raise HTTPException(504 if isinstance(error, TimeoutError) else 400, "it took too long", CLOSE) from None
        finally:
            self.held -= len(body)

    async def read(self, request: Request, body: bytes) -> Pixels:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            message = {"type": "http.request", "body": body}
            async with Request(request.scope, lambda: asyncio.sleep(0, message)).form(max_files=self.most) as form:
                files = [await part.read() for _, part in form.multi_items() if not isinstance(part, str)]
            inputs: list[Any] = files or [b""]  # which is no image
        else:
            inputs = self.parse(body)
        if all(isinstance(value, list) for value in inputs):
            return np.array(inputs, np.uint8)
        async with asyncio.timeout(self.settings.deadline_s):
            return await asyncio.get_running_loop().run_in_executor(POOL, self.decode, inputs)

    def parse(self, body: bytes) -> list[Any]:
        """The inputs in a body of JSON, of the right types and sizes."""
        # A parser makes an object of each value before it looks at types; one of these signs begins or ends each.
        if any(body.count(sign) > most for sign, most in self.signs.items()):
            raise HTTPException(422, f"inputs: more than {self.most} of shape {list(self.shape)}, or something else")
        try:
            return list(self.type.model_validate_json(body).inputs)
        except ValidationError as error:  # is explained without a word of what was sent
            one = max(error.errors(include_url=False, include_input=False), key=lambda each: len(each["loc"]))
            raise HTTPException(422, f"inputs{[i for i in one['loc'] if type(i) is int] or ''}: {one['msg']}") from None

    def decode(self, inputs: list[Any]) -> Pixels:
        """The images in files, and in arrays among them."""
        images, left = np.empty((len(inputs), *self.shape), np.uint8), self.settings.max_megapixels * 1e6
        for i, value in enumerate(inputs):
            try:
                if isinstance(value, str):
                    value = base64.b64decode(value, validate=True)
                if isinstance(value, bytes):
                    left -= count_pixels(value)
                    value = load_image(io.BytesIO(value), self.shape) if left >= 0 else None
                images[i] = value
            except Exception:  # a file from outside can fail in any of Pillow's ways
                why = "no image" if left >= 0 else f"more than {self.settings.max_megapixels} megapixels so far"
                raise HTTPException(422, f"inputs[{i}]: {why}") from None
        return images


def count_pixels(content: bytes) -> int:
    """How many pixels are decoded for a file, as it says itself; raises what Pillow does."""
    rounds = content.count(b"\xff\xda") // SCANS if content.startswith(b"\xff\xd8") else 0
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        tags: Any = getattr(image, "tag_v2", {})
        return int(max(image.width * image.height * (1 + rounds), tags.get(WIDTH, 0) * tags.get(LENGTH, 0)))


def mount(app: FastAPI, reader: Reader, answer: Answer, model: Callable[[], Model], state: Callable[[], str]) -> None:
    """Add all addresses: `answer` predicts, `model` is what answers now, `state` is ready, or why it is not."""

    async def predict(request: Request) -> JSONResponse:
        """Predict the class of one input or of several; answers keep their order: label, index and probability."""
        async with reader.images(request) as images:
            answers = {"predictions": await answer(images)}
        # A client's next request goes to another server while this one drains.
        return JSONResponse(answers, headers=None if state() == "ready" else CLOSE)

    body = {"requestBody": {"content": {"application/json": {"schema": reader.type.model_json_schema()}}}}
    app.add_route("/predict", predict, methods=["POST"])  # FastAPI has no arguments to find for it
    app.post("/predict", response_model=dict[str, list[dict[str, str | int | float]]], openapi_extra=body)(predict)
    page: Any = HTMLResponse(Path(__file__).with_name("page.html").read_text(), headers=POLICY)
    app.add_route("/", page)
    app.add_route("/docs", page)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "alive"}

    @app.get("/readyz")
    @app.get("/health")
    async def readyz(response: Response) -> dict[str, str]:
        """Whether to send requests here: 503 unless it is ready."""
        response.status_code = 200 if state() == "ready" else 503
        return {"status": state()}

    @app.get("/model")
    async def about() -> dict[str, Any]:
        """Which model answers, and what it takes."""
        told = {name: getattr(model(), name) for name in ("version", "shape", "classes")}
        return told | {"backend": reader.settings.backend, "max_batch": reader.most}
