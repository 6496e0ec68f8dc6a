"""The service: a LitServe server, whose model runs in a process of its own."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from litserve import LitAPI, LitServer
from litserve.utils import WorkerSetupStatus

from ..task import inputs
from ..task.inputs import Arrays
from . import monitoring
from .exported import Model, load_model
from .inputs import Reader, mount
from .limits import Limits, server_options
from .settings import Settings


class Api(LitAPI):  # type: ignore[misc]
    """What the worker does with the samples of a request."""

    def __init__(self, run: Path, settings: Settings) -> None:
        super().__init__()
        self.run, self.settings = run, settings

    def setup(self, device: str) -> None:
        self.model = load_model(self.run, self.settings.backend, self.settings.num_threads)
        self.model.run(inputs.example(self.model.about, 2))  # what happens once, no request waits for

    def decode_request(self, request: Any) -> Arrays:
        arrays: Arrays = request  # is decoded already: a worker answers one by one, and files take time
        return arrays

    def predict(self, arrays: Arrays) -> Arrays:
        return self.model.run(arrays)

    def encode_response(self, answers: Arrays) -> list[dict[str, Any]]:
        return inputs.predictions(answers, self.model.about)


def build_server(run: Path, settings: Settings) -> LitServer:
    """The server, not started; raises `UserError` where there is no model, or an empty key."""
    key, model = settings.api_key(), load_model(run, settings.backend, settings.num_threads)
    limits = {"settings": settings, "key": key}
    server = LitServer(
        Api(run, settings), accelerator="cpu", timeout=settings.deadline_s, middlewares=[(Limits, limits)]
    )
    app = server.app
    app.title = "{{ project }}"
    app.root_path = settings.root_path.rstrip("/")
    routes = {route.path: route for route in app.routes}
    app.router.routes[:] = [routes["/openapi.json"]]  # our own addresses are those of `serving=fastapi`

    async def answer(model: Model, samples: list[Arrays]) -> Any:
        return await routes["/predict"].endpoint(inputs.collate(samples))

    def state() -> str:
        ready = all(status == WorkerSetupStatus.READY for status in server.workers_setup_status.values())
        return "ready" if ready else "loading"

    mount(app, Reader(lambda: model, settings), answer, state)
    monitoring.set_model(model.version)
    monitoring.add_endpoint(app)
    return server


def stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # which LitServe ends at


def serve(run: Path, settings: Settings) -> None:
    """Answer requests until a signal ends it."""
    server = build_server(run, settings)
    signal.signal(signal.SIGTERM, stop)
    server.run(num_api_servers=1, generate_client_file=False, **server_options(settings))
