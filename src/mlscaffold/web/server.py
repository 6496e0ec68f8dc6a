"""Serve the page of a new project to this machine, and to nobody else on it.

The server listens on 127.0.0.1. Pages of others that a browser here has open cannot use it: a request names
this server as its host (another name that leads here does not count), comes from this page, and carries a
token that only the address of the page holds. Nothing that is sent is run; all else is refused in a line.
"""

import gc
import json
import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from errno import EADDRINUSE
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import compare_digest, token_urlsafe
from socket import socket
from socketserver import TCPServer
from typing import Any, cast
from urllib.parse import urlsplit

from mlscaffold.catalogue.questions import NAME, read
from mlscaffold.errors import MlscaffoldError
from mlscaffold.new import command
from mlscaffold.releases.own import template_root
from mlscaffold.screen import in_a_line
from mlscaffold.system.terminal import expand
from mlscaffold.web import engine

HOST = "127.0.0.1"
TOKEN = "X-Mlscaffold-Token"
MOST_BODY = 1 << 16  # bytes of a request
MOST_CONNECTIONS = 32
IDLE_S = 60  # that a connection may say nothing
MOST_DRAINED, LINGER_S = 1 << 20, 1  # bytes and seconds, after a request is refused
PAGE = Path(__file__).with_name("page")
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
TEXT, JSON, ZIP = "text/plain; charset=utf-8", "application/json", "application/zip"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Address = tuple[str, int]
Request = dict[str, Any]


class RefusedError(Exception):
    """A request that is not answered, with the status and the line that say so."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Server(ThreadingHTTPServer):
    """Holds the files of the page, and the tokens of whoever may ask."""

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # where it would let others listen as well
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, port: int) -> None:
        """Listen on a port, or on any that is free; raises `OSError`."""
        self.page = {f"/{path.name}": path.read_bytes() for path in PAGE.iterdir() if path.suffix in KINDS}
        self.token = token_urlsafe(32)
        # Whoever may list the programs of this machine sees the address that a browser is started with. So
        # that one has a key, which the page turns into the token, once.
        self._key = token_urlsafe(32)
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((HOST, port), Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # that of HTTPServer asks for a name of this machine, which takes seconds
        self.server_name, self.server_port = cast("Address", self.server_address)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    @property
    def address_to_open(self) -> str:
        return f"{self.address}#key={self._key}"

    def admits(self, token: str) -> bool:
        return compare_digest(token.encode(), self.token.encode())

    def redeem(self, key: str) -> bool:
        """Whether this is the key, which counts once."""
        with self._lock:
            fits = bool(self._key) and compare_digest(key.encode(), self._key.encode())
            if fits:
                self._key = ""
            return fits

    def process_request(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Say nothing of a browser that has gone."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            told = in_a_line(f"A request failed: {type(error).__name__}: {error}.")
            print(told, file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    """One connection; see `ROUTES` for what can be asked."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mlscaffold", ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        self._answer(self._file)

    def do_POST(self) -> None:
        self._answer(self._call)

    def _answer(self, find: Callable[[], tuple[str, bytes]]) -> None:
        try:
            self._check_host()
            kind, body = find()
        except RefusedError as error:
            self.close_connection = True
            self._send(error.status, TEXT, f"{error}\n".encode())
            self._drain()
        else:
            self._send(HTTPStatus.OK, kind, body)

    def _check_host(self) -> None:
        """A page elsewhere can let its own name lead to this machine; then that name is in the request."""
        port = self.server.server_port
        if self.headers.get_all("Host", []) not in ([f"{HOST}:{port}"], [f"localhost:{port}"]):
            raise RefusedError(HTTPStatus.FORBIDDEN, f"This server is {self.server.address} and no other.")

    def _file(self) -> tuple[str, bytes]:
        path = urlsplit(self.path).path
        name = "/index.html" if path == "/" else path
        if name not in self.server.page:
            raise RefusedError(HTTPStatus.NOT_FOUND, "There is no such file.")
        return KINDS[Path(name).suffix], self.server.page[name]

    def _call(self) -> tuple[str, bytes]:
        origin = self.headers.get("Origin")
        if origin not in (None, f"http://{self.headers['Host']}"):
            raise RefusedError(HTTPStatus.FORBIDDEN, "This request comes from another page.")
        token = self.headers.get(TOKEN, "")
        if self.path == "/api/token" and self.server.redeem(token):
            return JSON, json.dumps({"token": self.server.token}).encode()
        if not self.server.admits(token):
            told = "This request has no token of this server. Open the address that `mlscaffold web` printed."
            raise RefusedError(HTTPStatus.FORBIDDEN, told)
        if self.path not in ROUTES:
            raise RefusedError(HTTPStatus.NOT_FOUND, "There is nothing of this name.")
        request = self._read()
        try:
            found = ROUTES[self.path](request)
        except MlscaffoldError as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        except Exception as error:
            told = in_a_line(f"{type(error).__name__}: {error}. This should not happen.")
            print(told, file=sys.stderr, flush=True)
            raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, told) from error
        return (ZIP, found) if isinstance(found, bytes) else (JSON, json.dumps(found).encode())

    def _read(self) -> Request:
        """The JSON object that was sent."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "A request has to say how long it is.")
        if len(length) > 9 or int(length) > MOST_BODY:
            told = f"A request has at most {MOST_BODY:,} bytes."
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, told)
        try:
            request = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "This is no JSON.") from error
        if not isinstance(request, dict) or not isinstance(request.setdefault("given", {}), dict):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "This is no object with the answers that are given.")
        return request

    def _drain(self) -> None:
        """Take in what is still on its way: who is cut off while sending does not see the answer."""
        left = MOST_DRAINED
        with suppress(OSError):
            self.connection.settimeout(LINGER_S)
            while left > 0 and (read := self.rfile.read1(left)):
                left -= len(read)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, _explain: str | None = None) -> None:
        """What http.server itself refuses: a method, a line that is no HTTP."""
        self.close_connection = True
        self._send(HTTPStatus(code), TEXT, f"{message or HTTPStatus(code).phrase}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in http.server)
        """Say nothing: the terminal is for what is made."""


def begin(_request: Request) -> engine.Object:
    return {"catalogue": engine.catalogue(), "here": str(Path.cwd())}


def make(request: Request) -> engine.Object:
    """Make the project as `mlscaffold new` does, in a folder that is looked for from the current one."""
    answers = engine.resolved(request["given"])
    folder = expand(Path(str(request.get("folder") or answers[NAME])))
    made = command.make(read(template_root()), answers, command.Wish(dest=folder))
    print(f"Made {made.path}: {len(made.files)} files.", flush=True)
    return {
        "path": str(made.path.absolute()),
        "files": len(made.files),
        "note": made.note,
        "steps": command.next_steps(made),
    }


ROUTES: dict[str, Callable[[Request], engine.Object | bytes]] = {
    "/api/begin": begin,
    "/api/preview": lambda request: engine.preview(request["given"]),
    "/api/link": lambda request: engine.read_link(str(request.get("link", ""))),
    "/api/zip": lambda request: engine.archive(request["given"]),
    "/api/make": make,
}


def serve(port: int, *, open_browser: bool) -> None:
    """Serve the page until Ctrl-C; opens it in a browser where this machine has a screen."""
    try:
        server = Server(port)
    except OSError as error:
        taken = error.errno == EADDRINUSE
        wrong = f"Port {port} is taken." if taken else f"Port {port} cannot be used: {error.strerror}."
        raise MlscaffoldError(wrong, "Give another one: `mlscaffold web --port 0` takes any.") from error
    gc.enable()  # which a command that ends soon does without
    with server:
        print(f"The page is at {server.address}#token={server.token}")
        print(f"It makes projects in {Path.cwd()}. Ctrl-C ends it.", flush=True)
        if open_browser and _has_screen():
            # Some browsers are waited for until they are closed.
            threading.Thread(target=webbrowser.open, args=(server.address_to_open,), daemon=True).start()
        server.serve_forever()


def _has_screen() -> bool:
    """Whether a browser has a window to open; where not, Python would start one in the terminal."""
    return sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
