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
from . import (
    batching,
    exported,
    limits,
    #: if monitoring == "prometheus"
    monitoring,
    #: endif
)
from .exported import Model
from .inputs import Reader, build_request, mount
from .settings import Settings

log = logging.getLogger("uvicorn.error")


class Service:
    """The state of the service: its model, and whether it takes requests."""

    def __init__(self, run: Path, settings: Settings) -> None:
        self.run, self.settings = run, settings
        self.batcher = batching.Batcher(settings.max_batch, settings.deadline_s)
        self.model = self.load(None)
        self.draining = False
        self.stop: Callable[[], None] = lambda: None  # ends the server that the service runs in

    def load(self, before: Model | None) -> Model:
        """The model in the run's folder; raises `UserError` if its inputs are not those of the model before."""
        model = exported.load_model(self.run, self.settings.backend, self.settings.num_threads)
        #: if monitoring == "prometheus"
        model = model._replace(run=monitoring.count_batches(model.run))
        #: endif
        schemas = [build_request(one.about, 1).model_json_schema() for one in (model, before or model)]
        if schemas[0] != schemas[1]:
            raise UserError(f"{self.run}: this model takes other inputs than the one before. Start another service.")
        return model

    async def reload(self) -> None:
        """Switch to the model that is in the run's folder now; if it cannot be loaded, keep the present one."""
        try:
            model = await asyncio.to_thread(self.load, self.model)
        except Exception as error:  # whatever is wrong with it
            #: if monitoring == "prometheus"
            monitoring.count_reload("failed")
            #: endif
            log.warning("model %s stays: %s", self.model.version, error)
        else:
            #: if monitoring == "prometheus"
            monitoring.count_reload("done")
            #: endif
            log.info("model %s replaces %s", model.version, self.model.version)
            self.model = model

    def drain(self) -> None:
        """Report not ready, and stop after `drain_s`; requests that were accepted are answered."""
        if self.draining:
            self.stop()  # a second signal does not wait
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
        for power in range(self.settings.max_batch.bit_length()):  # so that no request pays for it
            await asyncio.to_thread(self.batcher.run, self.model, example(self.model.about, 2**power))
        gc.freeze()  # what is imported stays: collecting it again would delay requests
        yield


def build_app(run: Path, settings: Settings) -> FastAPI:
    """The app, with its `state.service`. Raises `UserError` if there is no model, or an empty key."""
    key, service, root = settings.api_key(), Service(run, settings), settings.root_path.rstrip("/")
    app = FastAPI(title="{{ project }}", lifespan=service.running, root_path=root, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_middleware(limits.Limits, settings=settings, key=key)

    async def answer(model: Model, samples: list[Arrays]) -> list[dict[str, Any]]:
        return predictions(await service.batcher.answer(model, samples), model.about)

    reader = Reader(lambda: service.model, settings)
    mount(app, reader, answer, lambda: ("ready", "draining")[service.draining])
    #: if monitoring == "prometheus"
    monitoring.mount(app, lambda: service.model.version, lambda: reader.waiting)
    #: endif
    return app


def serve(run: Path, settings: Settings) -> None:
    """Answer requests until a signal ends it."""
    app = build_app(run, settings)
    last_s = int(3 * settings.deadline_s) + 1  # for accepted requests
    server = uvicorn.Server(uvicorn.Config(app, **limits.server_options(settings), timeout_graceful_shutdown=last_s))
    app.state.service.stop = lambda: setattr(server, "should_exit", True)
    server.run()
