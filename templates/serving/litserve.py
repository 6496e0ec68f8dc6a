"""The service: a LitServe server, whose model runs in a process of its own."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from litserve import LitAPI, LitServer
from litserve.utils import WorkerSetupStatus

from ..export import Model, Pixels, Probabilities, sample
from ..predict import name_best
from . import monitoring
from .inputs import InputError, Inputs, decode, explain
from .limits import Limits
from .settings import Settings


class Api(LitAPI):  # type: ignore[misc]
    """What the worker does with a request."""

    def __init__(self, run: Path, settings: Settings) -> None:
        super().__init__()
        self.run, self.settings = run, settings

    def setup(self, device: str) -> None:
        self.model = self.settings.load_model(self.run)
        self.model.run(sample(self.model.shape))  # what happens once, no request waits for

    def decode_request(self, request: Inputs) -> Pixels:
        try:
            return decode(request.inputs, self.model.shape, self.settings.max_batch)
        except InputError as error:
            raise HTTPException(422, str(error)) from None

    def predict(self, images: Pixels) -> Probabilities:
        return self.model.run(images)

    def encode_response(self, answers: Probabilities) -> dict[str, Any]:
        return {"predictions": name_best(answers, self.model.classes)}


def build_server(run: Path, settings: Settings) -> LitServer:
    """The server, not started; raises `UserError` where there is no model."""
    model = settings.load_model(run)
    server = LitServer(
        Api(run, settings),
        accelerator="cpu",
        timeout=settings.deadline_s,
        healthcheck_path="/litserve",  # its own answer is no JSON
        middlewares=[(Limits, {"settings": settings, "draining": lambda: False})],
    )
    server.app.add_exception_handler(RequestValidationError, refuse)
    add_state(server, settings, model)
    monitoring.set_model(model.version)
    monitoring.add_endpoint(server.app)
    return server


def add_state(server: LitServer, settings: Settings, model: Model) -> None:
    app: FastAPI = server.app

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "alive"}

    @app.get("/readyz")
    @app.get("/health")
    async def readyz(response: Response) -> dict[str, str]:
        """Whether to send requests here: 503 until the worker has loaded the model."""
        states = server.workers_setup_status.values()
        ready = all(state == WorkerSetupStatus.READY for state in states)
        response.status_code = 200 if ready else 503
        return {"status": "ready" if ready else "loading"}

    @app.get("/model")
    async def about() -> dict[str, Any]:
        """Which model answers, and what it takes."""
        return settings.describe(model)


async def refuse(request: object, error: RequestValidationError) -> JSONResponse:
    """422 without a word of what was sent."""
    return JSONResponse({"detail": explain(error.errors())}, 422)


def stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # which LitServe ends at


def serve(run: Path, settings: Settings) -> None:
    """Answer requests until a signal ends it."""
    server = build_server(run, settings)
    signal.signal(signal.SIGTERM, stop)
    server.run(host=settings.host, port=settings.port, num_api_servers=1, generate_client_file=False)
