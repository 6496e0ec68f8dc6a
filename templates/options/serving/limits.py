"""What stands before the service: a bound on connections and on what they send before a body, a key."""

import hmac
from typing import Any

from fastapi.responses import JSONResponse
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .settings import Settings

MOST_HEAD, MOST_PIPELINED = 2**14, 10  # bytes of an address with its headers; requests
HEALTH, TOLD = {"/livez", "/readyz", "/health"}, {"/", "/docs", "/openapi.json", "/metrics"}
NO_KEY = JSONResponse({"detail": "X-API-Key: the key is missing or wrong"}, 401)


class Protocol(HttpToolsProtocol):
    """uvicorn's, with bounds on connections, and on what each of them makes it keep before the app is asked."""

    most, since, head = 256, 0.0, 0  # connections; when this one began or asked; bytes since those of a body

    def connection_made(self, transport: Any) -> None:
        self.since = self.loop.time()
        if len(self.connections) >= self.most:  # who asks for nothing makes room
            connections: set[Any] = self.connections
            idlest = min(connections, key=lambda one: (bool(one.cycle and not one.cycle.response_complete), one.since))
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
            raise ValueError("too many requests at once")  # which ends the reading


def server_options(settings: Settings) -> dict[str, Any]:
    """What both services tell uvicorn."""
    Protocol.most = settings.max_connections
    options = {"host": settings.host, "port": settings.port, "timeout_keep_alive": settings.keep_alive_s}
    return options | {"http": Protocol, "ws": "none", "access_log": False}


class Limits:
    """ASGI middleware: a key before most addresses; HEAD is asked as GET, and uvicorn sends no body."""

    def __init__(self, app: ASGIApp, settings: Settings, key: bytes) -> None:
        self.app, self.key, self.open = app, key, HEALTH if settings.key_for == "all" else HEALTH | TOLD

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
        free = not self.key or scope["type"] != "http" or get_route_path(scope) in self.open
        given = b"" if free else dict(scope["headers"]).get(b"x-api-key", b"")
        await (self.app if free or hmac.compare_digest(given, self.key) else NO_KEY)(scope, receive, send)
