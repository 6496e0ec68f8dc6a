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
from fastapi import FastAPI

from ..export import Pixels
from ..predict import name_best
from . import monitoring
from .batching import Batcher
from .inputs import Reader, mount
from .limits import Limits, server_options
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
    """The app; `state.service` is what it works with. Raises `UserError` where there is no model, or an empty key."""
    key, service = settings.api_key(), Service(run, settings)
    options: dict[str, Any] = {"root_path": settings.root_path.rstrip("/"), "docs_url": None, "redoc_url": None}
    app = FastAPI(title="{{ project }}", lifespan=service.running, **options)
    app.state.service = service
    app.add_middleware(Limits, settings=settings, key=key)

    async def answer(images: Pixels) -> list[dict[str, Any]]:
        model, answers = await service.batcher.answer(images)
        return name_best(answers, model.classes)

    reader = Reader(service.batcher.model.shape, settings)
    mount(app, reader, answer, lambda: service.batcher.model, lambda: ("ready", "draining")[service.draining])
    monitoring.add_endpoint(app)
    return app


def serve(run: Path, settings: Settings) -> None:
    """Answer requests until a signal ends it."""
    app = build_app(run, settings)
    last_s = int(3 * settings.deadline_s) + 1  # for what was accepted
    server = uvicorn.Server(uvicorn.Config(app, **server_options(settings), timeout_graceful_shutdown=last_s))
    app.state.service.stop = lambda: setattr(server, "should_exit", True)
    server.run()
