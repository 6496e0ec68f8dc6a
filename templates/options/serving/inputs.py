"""Requests and answers over HTTP; the task says what an input is and how it is decoded."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from starlette.requests import ClientDisconnect

from ..task import requests
from ..task.inputs import INPUTS, Arrays, example
from .exported import Model, describe, measure
from .settings import Settings

CLOSE = {"connection": "close"}  # the rest of a body is not read
LATER = {"retry-after": "1"}  # seconds
POLICY = {"content-security-policy": "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"}
POOL = ThreadPoolExecutor(2, "inputs")  # decodes files and texts outside the event loop

Answer = Callable[[Model, list[Arrays]], Awaitable[Any]]


def split_by_length(answer: Answer) -> Answer:
    """Answer samples of like length together, and others apart: a batch is filled up to its longest sample."""

    async def answer_parts(model: Model, samples: list[Arrays]) -> list[Any]:
        parts = defaultdict[int, list[int]](list)  # the places of samples, by log2 of their length
        for place, sample in enumerate(samples):
            parts[measure(sample).bit_length()].append(place)
        if len(parts) == 1:
            return list(await answer(model, samples))
        found = await asyncio.gather(*(answer(model, [samples[i] for i in part]) for part in parts.values()))
        answers: list[Any] = [None] * len(samples)
        for part, some in zip(parts.values(), found, strict=True):
            for place, one in zip(part, some, strict=True):
                answers[place] = one
        return answers

    return answer_parts


def build_request(about: dict[str, Any], most: int) -> type[BaseModel]:
    """The type of a request's body."""
    one: Any = requests.build_input(about)
    inputs = Annotated[list[one], Field(min_length=1, max_length=most, fail_fast=True)]
    return create_model("Inputs", __doc__="One input or several.", __config__=ConfigDict(extra="forbid"), inputs=inputs)


class Reader:
    """Reads requests for the current model; raises `HTTPException` for invalid ones."""

    def __init__(self, model: Callable[[], Model], settings: Settings) -> None:
        self.model, self.settings, self.most = model, settings, settings.max_batch
        self.type: Any = build_request(model().about, self.most)
        own, each = {b"{": 1, b":": 1, b"[": 1, b",": self.most - 1}, requests.count_signs(model().about)
        self.signs = {sign: number + self.most * each.get(sign, 0) for sign, number in own.items()}
        self.waiting = self.held = 0  # requests with a complete body; bytes of all bodies

    @asynccontextmanager
    async def samples(self, request: Request) -> AsyncIterator[tuple[Model, list[Arrays]]]:
        """The current model and the samples of a request, which counts as waiting within this context."""
        body, largest = bytearray(), int(self.settings.max_body_mb * 2**20)
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                async for part in request.stream():  # its length may be announced wrongly, or not at all
                    body += part
                    self.held += len(part)
                    if len(body) > largest:
                        raise HTTPException(413, f"the body is larger than {largest} bytes", CLOSE)
                    if self.held > 32 * largest:  # of all requests together
                        raise HTTPException(429, "all bodies together are too large", LATER | CLOSE)
            if self.waiting >= self.settings.max_queue:
                raise HTTPException(429, "too many requests are waiting", LATER)
            self.waiting += 1
            try:
                model = self.model()
                yield model, await self.read(request, bytes(body), model.about)
            finally:
                self.waiting -= 1
        except (TimeoutError, ClientDisconnect) as error:
            raise HTTPException(504 if isinstance(error, TimeoutError) else 400, "it took too long", CLOSE) from None
        finally:
            self.held -= len(body)

    async def read(self, request: Request, body: bytes, about: dict[str, Any]) -> list[Arrays]:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            message = {"type": "http.request", "body": body}
            async with Request(request.scope, lambda: asyncio.sleep(0, message)).form(max_files=self.most) as form:
                files = [await part.read() for _, part in form.multi_items() if not isinstance(part, str)]
            inputs: list[Any] = files or [b""]  # refused as no input
        else:
            inputs = self.parse(body)
        if not any(isinstance(value, str | bytes) for value in inputs):  # these may take long to decode
            return self.decode(inputs, about)
        async with asyncio.timeout(self.settings.deadline_s):
            return await asyncio.get_running_loop().run_in_executor(POOL, self.decode, inputs, about)

    def parse(self, body: bytes) -> list[Any]:
        """The inputs in a body of JSON, checked for types and sizes."""
        # A parser creates an object for each value before it checks types, so values are counted first, by their signs.
        if any(body.count(sign) > most for sign, most in self.signs.items()):
            raise HTTPException(422, f"inputs: more than {self.most}, or too many values in one")
        try:
            return list(self.type.model_validate_json(body).inputs)
        except ValidationError as error:  # the answer repeats nothing of the body
            one = max(error.errors(include_url=False, include_input=False), key=lambda each: len(each["loc"]))
            raise HTTPException(422, f"inputs{[i for i in one['loc'] if type(i) is int] or ''}: {one['msg']}") from None

    def decode(self, inputs: list[Any], about: dict[str, Any]) -> list[Arrays]:
        """Decode the inputs, within the memory that a request may take."""
        samples, left = list[Arrays](), int(self.settings.max_decoded_mb * 2**20)
        for i, value in enumerate(inputs):
            try:
                sample, size = requests.decode(value, about, left)
            except Exception:  # input from outside can fail in any way
                raise HTTPException(422, f"inputs[{i}]: it cannot be decoded in {left // 2**20} MB") from None
            samples.append(sample)
            left -= size
        return samples


def mount(app: FastAPI, reader: Reader, answer: Answer, state: Callable[[], str]) -> None:
    """Add all addresses. `answer` predicts; `state` is "ready", or another word if it is not."""
    answer = split_by_length(answer)
    if extend := getattr(requests, "extend", None):  # of a task whose answers take several calls of the model
        answer = extend(app, reader, answer)
    schema = reader.type.model_json_schema()

    async def predict(request: Request) -> JSONResponse:
        """Predict for one input or several. Predictions have the order of the inputs."""
        async with reader.samples(request) as (model, samples):
            answers = {"predictions": await answer(model, samples)}
        try:  # while the service drains, a client has to connect to another one for its next request
            return JSONResponse(answers, headers=None if state() == "ready" else CLOSE)
        except ValueError:  # JSON has neither infinities nor NaN
            raise HTTPException(422, "inputs: the model's answer is not a finite number") from None

    body = {"requestBody": {"content": {"application/json": {"schema": schema}}}}
    app.add_route("/predict", predict, methods=["POST"])  # faster than FastAPI's own, which has no arguments to read
    app.post("/predict", response_model=dict[str, list[requests.Prediction]], openapi_extra=body)(predict)
    app.router.redirect_slashes = False  # it would redirect to an address without the proxy's prefix
    html = Path(__file__).with_name("page.html").read_text()
    for path in ("/", "/docs"):
        app.add_route(path, lambda request: HTMLResponse(html, headers=POLICY))
    mount_facts(app, reader, schema["properties"]["inputs"]["items"].get("examples", [])[:1], state)


def mount_facts(app: FastAPI, reader: Reader, inputs: list[Any], state: Callable[[], str]) -> None:
    """Add the addresses that only tell something: health, an example of a request, and the model."""

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    @app.get("/health")
    async def readyz() -> JSONResponse:
        """Whether to send requests here: 200 if it is ready, else 503."""
        return JSONResponse({"status": state()}, 200 if state() == "ready" else 503)

    @app.get("/example")
    async def example_request() -> dict[str, Any]:
        """A request for /predict."""
        return {"inputs": inputs}

    @app.get("/model")
    async def about() -> dict[str, Any]:
        """The version of the model, and what it takes."""
        model, given = reader.model(), {"backend": reader.settings.backend, "max_batch": reader.most}
        asked = describe(example(model.about, 1), INPUTS)
        return {"version": model.version, "about": model.about, "inputs": asked, **given}
