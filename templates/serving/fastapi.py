"""The service: a FastAPI app, and how it starts, reloads and ends."""

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from ..data import Shape
from ..predict import name_best
from . import monitoring
from .batching import Batcher
from .inputs import InputError, Inputs, Predictions, decode, parse_inputs
from .limits import Limits
from .settings import Settings

log = logging.getLogger("uvicorn.error")


class Service:
    """What the endpoints work with: the model, and whether it still takes requests."""

    def __init__(self, run: Path, settings: Settings) -> None:
        self.run, self.settings = run, settings
        self.batcher = Batcher(settings.load_model(run), settings.max_batch, settings.deadline_s)
        self.draining = False
        self.stop: Callable[[], None] = lambda: None  # ends the server that the service runs in

    async def reload(self) -> None:
        """Let what the run's folder holds now take over, if it is in order; else all stays as it is."""
        try:
            self.batcher.use(await asyncio.to_thread(self.settings.load_model, self.run))
        except Exception as error:  # whatever is wrong with it, the one before answers
            monitoring.count_reload("failed")
            log.warning("model %s stays: %s", self.batcher.model.version, error)
        else:
            monitoring.count_reload("done")
            log.info("model %s answers from now on", self.batcher.model.version)

    def drain(self) -> None:
        """Say that the service is not ready, then stop it; what it has accepted it answers."""
        if self.draining:
            self.stop()  # told twice: at once
        self.draining = True
        asyncio.get_running_loop().call_later(self.settings.drain_s, self.stop)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """Warm up; then SIGTERM and Ctrl-C drain, SIGHUP reloads."""
        loop, tasks, model = asyncio.get_running_loop(), set[asyncio.Task[None]](), self.batcher.model
        with suppress(NotImplementedError, AttributeError):  # Windows has no such signals
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.drain)
            loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(loop.create_task(self.reload())))
        for power in range(self.settings.max_batch.bit_length()):  # no request waits for what happens once
            await asyncio.to_thread(self.batcher.run, model, np.zeros((2**power, *model.shape), np.uint8))
        gc.freeze()  # what is imported stays; to look through it again and again would hold requests up
        yield


def build_app(run: Path, settings: Settings) -> FastAPI:
    """The app; `state.service` is what it works with. Raises `UserError` where there is no model."""
    service = Service(run, settings)
    app = FastAPI(title="{{ project }}", lifespan=service.running)
    app.state.service = service
    app.add_middleware(Limits, settings=settings, draining=lambda: service.draining)
    add_predict(app, service)
    add_state(app, service)
    monitoring.add_endpoint(app)
    return app


def add_predict(app: FastAPI, service: Service) -> None:
    shape, settings = service.batcher.model.shape, service.settings

    async def predict(request: Request) -> JSONResponse:
        """Predict the class of one input or of several; answers keep their order."""
        try:
            if request.headers.get("content-type", "").startswith("multipart/form-data"):
                inputs: list[Any] = await read_files(request, settings.max_batch)
            else:
                inputs = parse_inputs((await request.receive())["body"])  # all of it: see `Limits`
            if all(isinstance(value, list) for value in inputs):
                images = decode(inputs, shape, settings.max_batch)
            else:  # unpacking files takes its time
                images = await asyncio.to_thread(decode, inputs, shape, settings.max_batch)
            model, answers = await service.batcher.answer(images)
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        except TimeoutError:
            raise HTTPException(504, "the model did not answer in time") from None
        return JSONResponse({"predictions": name_best(answers, model.classes)})

    app.add_route("/predict", predict, methods=["POST"])  # FastAPI has no arguments to find for it
    app.post("/predict", response_model=Predictions, openapi_extra=describe_body(shape))(predict)  # for /docs


async def read_files(request: Request, most: int) -> list[bytes]:
    """The files of a form, whatever its fields are called."""
    async with request.form(max_files=most, max_fields=0) as form:
        return [await part.read() for _, part in form.multi_items() if not isinstance(part, str)]


def describe_body(shape: Shape) -> dict[str, Any]:
    """What /predict takes, for the OpenAPI page."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": {"inputs": files}, "required": ["inputs"]}}
    json = {"schema": Inputs.model_json_schema(), "example": {"inputs": np.zeros((1, *shape), int).tolist()}}
    return {"requestBody": {"content": {"application/json": json, "multipart/form-data": form}}}


def add_state(app: FastAPI, service: Service) -> None:
    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "alive"}

    @app.get("/readyz")
    @app.get("/health")
    async def readyz(response: Response) -> dict[str, str]:
        """Whether to send requests here: 503 once the service is about to end."""
        response.status_code = 503 if service.draining else 200
        return {"status": "draining" if service.draining else "ready"}

    @app.get("/model")
    async def about() -> dict[str, Any]:
        """Which model answers, and what it takes."""
        return service.settings.describe(service.batcher.model)


def serve(run: Path, settings: Settings) -> None:
    """Answer requests until a signal ends it."""
    app = build_app(run, settings)
    server = uvicorn.Server(uvicorn.Config(app, host=settings.host, port=settings.port, access_log=False))
    app.state.service.stop = lambda: setattr(server, "should_exit", True)
    server.run()
