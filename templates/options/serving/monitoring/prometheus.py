"""Metrics of the service for Prometheus, at /metrics."""

import time
from collections.abc import Callable

from fastapi import FastAPI, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..task.inputs import Arrays
from ..trained import Run

PATHS = {"/predict", "/livez", "/readyz", "/health", "/metrics", "/model", "/example"}

REQUESTS = Counter("serving_requests", "Requests that were answered", ["path", "status"])
ERRORS = Counter("serving_errors", "Requests that the service failed to answer", ["path"])
SECONDS = Histogram("serving_request_seconds", "From a request's headers to its answer", ["path"])
BATCH = Histogram("serving_batch_size", "Inputs in one call of the model", buckets=[2**i for i in range(11)])
QUEUE = Gauge("serving_queue_requests", "Requests that wait for the model")
RELOADS = Counter("serving_reloads", "Reloads of the model", ["outcome"])
MODEL = Gauge("serving_model_info", "1 for the version that answers", ["version"])


class Count:
    """ASGI middleware that counts requests and their durations."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            if scope["type"] == "http":
                count_request(get_route_path(scope), status, time.perf_counter() - begin)


def mount(app: FastAPI, version: Callable[[], str], waiting: Callable[[], int]) -> None:
    """Count requests and add /metrics; `version` of the model and the number of requests `waiting` are asked there."""
    QUEUE.set_function(waiting)
    app.add_middleware(Count)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        MODEL.clear()
        MODEL.labels(version()).set(1)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def count_request(path: str, status: int, seconds: float) -> None:
    """Count a request that was answered."""
    path = path if path in PATHS else "other"  # a scan for holes must not make a series for each try
    REQUESTS.labels(path, status).inc()
    SECONDS.labels(path).observe(seconds)
    if status >= 500:
        ERRORS.labels(path).inc()


def count_batches(run: Run) -> Run:
    """The same model, whose batches are counted."""

    def counted(arrays: Arrays) -> Arrays:
        BATCH.observe(len(next(iter(arrays.values()))))
        return run(arrays)

    return counted


def count_reload(outcome: str) -> None:
    """Count a reload of the model, `done` or `failed`."""
    RELOADS.labels(outcome).inc()
