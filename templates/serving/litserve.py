"""The service: a LitServe server, whose model runs in a process of its own."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from litserve import LitAPI, LitServer
from litserve.utils import WorkerSetupStatus

from ..export import Pixels, Probabilities, sample
from ..predict import name_best
from . import monitoring
from .inputs import Reader, mount
from .limits import Limits, server_options
from .settings import Settings


class Api(LitAPI):  # type: ignore[misc]
    """What the worker does with the images of a request."""

    def __init__(self, run: Path, settings: Settings) -> None:
        super().__init__()
        self.run, self.settings = run, settings

    def setup(self, device: str) -> None:
        self.model = self.settings.load_model(self.run)
        self.model.run(sample(self.model.shape))  # what happens once, no request waits for

    def decode_request(self, request: Any) -> Pixels:
        images: Pixels = request  # is read already: a worker answers one by one, and files take time
        return images

    def predict(self, images: Pixels) -> Probabilities:
        return self.model.run(images)

    def encode_response(self, answers: Probabilities) -> list[dict[str, Any]]:
        return name_best(answers, self.model.classes)


def build_server(run: Path, settings: Settings) -> LitServer:
    """The server, not started; raises `UserError` where there is no model, or an empty key."""
    key, model = settings.api_key(), settings.load_model(run)
    limits = {"settings": settings, "key": key}
    server = LitServer(
        Api(run, settings), accelerator="cpu", timeout=settings.deadline_s, middlewares=[(Limits, limits)]
    )
    app = server.app
    app.title = "{{ project }}"
    app.root_path = settings.root_path.rstrip("/")
    routes = {route.path: route for route in app.routes}
    app.router.routes[:] = [routes["/openapi.json"]]  # our own addresses are those of `serving=fastapi`

    def state() -> str:
        ready = all(status == WorkerSetupStatus.READY for status in server.workers_setup_status.values())
        return "ready" if ready else "loading"

    mount(app, Reader(model.shape, settings), routes["/predict"].endpoint, lambda: model, state)
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
