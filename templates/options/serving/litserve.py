"""The service: a LitServe server, whose model runs in a process of its own."""

import multiprocessing
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from litserve import LitAPI, LitServer
from litserve.utils import WorkerSetupStatus

from ..task import inputs
from ..task.inputs import Arrays
from . import (
    exported,
    limits,
    #: if monitoring == "prometheus"
    monitoring,
    #: endif
)
from .exported import Model
from .inputs import Reader, mount
from .settings import Settings


class Api(LitAPI):  # type: ignore[misc]
    """The model in the worker process."""

    def __init__(self, run: Path, settings: Settings) -> None:
        super().__init__()
        self.run, self.settings = run, settings

    def setup(self, device: str) -> None:
        self.model = exported.load_model(self.run, self.settings.backend, self.settings.num_threads)
        self.model.run(inputs.example(self.model.about, 2))  # so that no request pays for the first call

    def decode_request(self, request: Any) -> Arrays:
        arrays: Arrays = request  # decoded already: the worker takes one request at a time, and files take long
        return arrays

    def predict(self, arrays: Arrays) -> Arrays:
        return self.model.run(arrays)

    def encode_response(self, answers: Arrays) -> list[dict[str, Any]]:
        return inputs.predictions(answers, self.model.about)


class Drain:
    """Ends the server `drain_s` after SIGTERM; until then it answers, and reports that it is not ready."""

    def __init__(self, drain_s: float) -> None:
        self.begun, self.drain_s = multiprocessing.Event(), drain_s  # the event is shared with the process of the app

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.begun.is_set():
            self.begun.set()
            time.sleep(self.drain_s)
        raise KeyboardInterrupt  # at which LitServe ends


def build_server(run: Path, settings: Settings, drain: Drain) -> LitServer:
    """The server, not started; raises `UserError` if there is no model, or an empty key."""
    key, model = settings.api_key(), exported.load_model(run, settings.backend, settings.num_threads)
    options = {"settings": settings, "key": key}
    server = LitServer(
        Api(run, settings), accelerator="cpu", timeout=settings.deadline_s, middlewares=[(limits.Limits, options)]
    )
    app = server.app
    app.title = "{{ project }}"
    app.root_path = settings.root_path.rstrip("/")
    routes = {route.path: route for route in app.routes}
    app.router.routes[:] = [routes["/openapi.json"]]  # ours replace LitServe's

    async def answer(model: Model, samples: list[Arrays]) -> Any:
        return await routes["/predict"].endpoint(inputs.collate(samples))

    def state() -> str:
        if drain.begun.is_set():
            return "draining"
        ready = all(status == WorkerSetupStatus.READY for status in server.workers_setup_status.values())
        return "ready" if ready else "loading"

    reader = Reader(lambda: model, settings)
    mount(app, reader, answer, state)
    #: if monitoring == "prometheus"
    monitoring.mount(app, lambda: model.version, lambda: reader.waiting)
    #: endif
    return server


def serve(run: Path, settings: Settings) -> None:
    """Answer requests until a signal ends it."""
    drain = Drain(settings.drain_s)
    server = build_server(run, settings, drain)
    signal.signal(signal.SIGTERM, drain)
    server.run(num_api_servers=1, generate_client_file=False, **limits.server_options(settings))
