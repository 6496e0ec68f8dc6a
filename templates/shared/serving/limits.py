"""What stands before the service: a key, a bound on everything that a client could make grow, a count."""

import asyncio
import hmac
import time
from collections.abc import Callable

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import monitoring
from .settings import Settings

CLOSE = {"connection": "close"}  # what is left of a body is not worth reading
LATER = {"retry-after": "1"}  # seconds


class Limits:
    """ASGI middleware. A request for predictions reaches the app with its whole body, or not at all."""

    def __init__(self, app: ASGIApp, settings: Settings, draining: Callable[[], bool]) -> None:
        self.app, self.settings, self.draining = app, settings, draining
        self.key, self.largest = settings.api_key(), int(settings.max_body_mb * 2**20)
        self.waiting = self.held = 0  # requests in the app, bytes of bodies
        monitoring.watch_queue(lambda: self.waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begin, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.draining():  # the client's next request goes to another server
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            await self.guard(scope, receive, note)
        except HTTPException as refusal:
            answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
            await answer(scope, receive, note)
        finally:
            monitoring.count_request(scope["path"], status, time.perf_counter() - begin)
        return None

    async def guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or say why not in an `HTTPException`."""
        headers, body = dict(scope["headers"]), bytearray()
        needs_key = self.key and scope["path"] in ("/predict", "/model")
        if needs_key and not hmac.compare_digest(headers.get(b"x-api-key", b""), self.key):
            raise HTTPException(401, "X-API-Key: the key is missing or wrong")
        if scope["path"] != "/predict":
            return await self.app(scope, receive, send)
        try:
            await self.read(body, headers.get(b"content-length", b""), receive)
            if self.waiting >= self.settings.max_queue:
                raise HTTPException(429, "too many requests are waiting", LATER)
            messages: list[Message] = [{"type": "http.request", "body": bytes(body)}]

            async def replay() -> Message:
                return messages.pop() if messages else await receive()

            self.waiting += 1
            try:
                await self.app(scope, replay, send)
            finally:
                self.waiting -= 1
        finally:
            self.held -= len(body)
        return None

    async def read(self, body: bytearray, announced: bytes, receive: Receive) -> None:
        """Collect the body, which may be longer than was announced, or not announced at all."""
        more, too_large = True, announced.isdigit() and int(announced) > self.largest
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                while more and not too_large:
                    message = await receive()
                    body += message.get("body", b"")
                    self.held += len(message.get("body", b""))
                    more, too_large = message.get("more_body", False), len(body) > self.largest
                    if self.held > 32 * self.largest:  # of all requests together
                        raise HTTPException(429, "too much is being sent", LATER | CLOSE)
        except TimeoutError:
            raise HTTPException(504, "the body did not arrive in time", CLOSE) from None
        if too_large:
            raise HTTPException(413, f"a body has {self.largest} bytes at most", CLOSE)
