"""Limits before the app is reached: connections, headers, the key."""

import hmac
import selectors
from typing import Any

from fastapi.responses import JSONResponse
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .settings import Settings

MOST_HEAD, MOST_PIPELINED = 2**14, 10  # bytes of an address with its headers; requests
HEALTH, PAGES = {"/livez", "/readyz", "/health"}, {"/", "/docs", "/openapi.json", "/example", "/metrics"}
NO_KEY = {"detail": "X-API-Key: the key is missing or wrong"}


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits on connections and on what each may send before the app is called."""

    most, since, head = 256, 0.0, 0  # connections; time of the last request; bytes that are no body

    def connection_made(self, transport: Any) -> None:
        self.since = self.loop.time()
        if len(self.connections) >= self.most:  # who asks for nothing makes room
            connections: set[Any] = self.connections
            idle = sorted(connections, key=lambda one: (bool(one.cycle and not one.cycle.response_complete), one.since))
            idlest = next((one for one in idle if not has_asked(one.transport)), idle[0])
            self.connections.discard(idlest)
            idlest.transport.abort()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.head += len(data)
        super().data_received(data)
        if self.head > MOST_HEAD and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def on_body(self, body: bytes) -> None:
        self.head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.head, self.since = 0, self.loop.time()
        super().on_message_complete()
        if len(self.pipeline) > MOST_PIPELINED:
            raise ValueError("too many requests at once")  # closes the connection


def has_asked(transport: Any) -> bool:
    """Whether something has come that is not read yet, as where many connect at once."""
    with selectors.DefaultSelector() as selector:
        selector.register(transport.get_extra_info("socket").fileno(), selectors.EVENT_READ)
        return bool(selector.select(0))


def server_options(settings: Settings) -> dict[str, Any]:
    """The options of uvicorn."""
    Protocol.most = settings.max_connections
    options = {"host": settings.host, "port": settings.port, "timeout_keep_alive": settings.keep_alive_s}
    return options | {"http": Protocol, "ws": "none", "access_log": False}


class Limits:
    """ASGI middleware: most addresses need the key; HEAD is handled as GET, and uvicorn sends no body."""

    def __init__(self, app: ASGIApp, settings: Settings, key: bytes) -> None:
        self.app, self.key, self.open = app, key, HEALTH if settings.key_for == "all" else HEALTH | PAGES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
        free = not self.key or scope["type"] != "http" or get_route_path(scope) in self.open
        given = b"" if free else dict(scope["headers"]).get(b"x-api-key", b"")
        app = self.app if free or hmac.compare_digest(given, self.key) else JSONResponse(NO_KEY, 401)
        await app(scope, receive, send)
