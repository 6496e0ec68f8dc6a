"""The service: a FastAPI app, and how it starts, reloads and ends."""

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from ..errors import UserError
from ..task.inputs import Arrays, example, predictions
from . import monitoring
from .batching import Batcher
from .exported import Model, load_model
from .inputs import Reader, build_request, mount
from .limits import Limits, server_options
from .settings import Settings

log = logging.getLogger("uvicorn.error")


class Service:
    """What the endpoints work with: the model, and whether it still takes requests."""

    def __init__(self, run: Path, settings: Settings) -> None:
        self.run, self.settings, self.batcher = run, settings, Batcher(settings.max_batch, settings.deadline_s)
        self.model = self.load(None)
        self.draining = False
        self.stop: Callable[[], None] = lambda: None  # ends the server that the service runs in
        monitoring.set_model(self.model.version)

    def load(self, before: Model | None) -> Model:
        """What the run's folder holds now; raises `UserError` if it is not asked as the model before."""
        model = load_model(self.run, self.settings.backend, self.settings.num_threads)
        schemas = [build_request(one.about, 1).model_json_schema() for one in (model, before or model)]
        if schemas[0] != schemas[1]:
            raise UserError(f"{self.run}: this model takes other inputs than the one before. Start another service.")
        return model

    async def reload(self) -> None:
        """Let what the run's folder holds now take over, if it is in order; else all stays as it is."""
        try:
            model = await asyncio.to_thread(self.load, self.model)
        except Exception as error:  # whatever is wrong with it, the one before answers
            monitoring.count_reload("failed")
            log.warning("model %s stays: %s", self.model.version, error)
        else:
            self.model = model
            monitoring.set_model(model.version)
            monitoring.count_reload("done")
            log.info("model %s answers from now on", model.version)

    def drain(self) -> None:
        """Say that the service is not ready, then stop it; what it has accepted it answers."""
        if self.draining:
            self.stop()  # told twice: at once
        self.draining = True
        asyncio.get_running_loop().call_later(self.settings.drain_s, self.stop)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """Warm up; then SIGTERM and Ctrl-C drain, SIGHUP reloads."""
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        with suppress(NotImplementedError, AttributeError):  # Windows has no such signals
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.drain)
            loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(loop.create_task(self.reload())))
        for power in range(self.settings.max_batch.bit_length()):  # no request waits for what happens once
            await asyncio.to_thread(self.batcher.run, self.model, example(self.model.about, 2**power))
        gc.freeze()  # what is imported stays; to look through it again and again would hold requests up
        yield


def build_app(run: Path, settings: Settings) -> FastAPI:
    """The app; `state.service` is what it works with. Raises `UserError` where there is no model, or an empty key."""
    key, service = settings.api_key(), Service(run, settings)
    options: dict[str, Any] = {"root_path": settings.root_path.rstrip("/"), "docs_url": None, "redoc_url": None}
    options["title"] = "{{ project }}"
    app = FastAPI(lifespan=service.running, **options)
    app.state.service = service
    app.add_middleware(Limits, settings=settings, key=key)

    async def answer(model: Model, samples: list[Arrays]) -> list[dict[str, Any]]:
        return predictions(await service.batcher.answer(model, samples), model.about)

    reader = Reader(lambda: service.model, settings)
    mount(app, reader, answer, lambda: ("ready", "draining")[service.draining])
    monitoring.add_endpoint(app)
    return app


def serve(run: Path, settings: Settings) -> None:
    """Answer requests until a signal ends it."""
    app = build_app(run, settings)
    last_s = int(3 * settings.deadline_s) + 1  # for what was accepted
    server = uvicorn.Server(uvicorn.Config(app, **server_options(settings), timeout_graceful_shutdown=last_s))
    app.state.service.stop = lambda: setattr(server, "should_exit", True)
    server.run()
