"""Services of generated projects: started as users do, asked over plain HTTP/1.1."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import durations, forks, proofs
from tests.support.projects import Project

GREETING = 300  # seconds that a service may take to start, on a machine that does much else


@dataclass
class Service:
    """A service that runs."""

    process: subprocess.Popen[bytes] | forks.Fork
    port: int

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Send one request on a connection of its own; return the status and the JSON of the answer."""

        async def once() -> tuple[int, Any]:
            connection = await connect(self.port)
            try:
                answer = await connection.ask(path, body, **headers)
            finally:
                connection.writer.close()
            return answer.status, answer.json

        return asyncio.run(once())

    def metric(self, name: str) -> float:
        """The value of a metric, 0 before it is first set."""

        async def read() -> str:
            connection = await connect(self.port)
            answer = await connection.ask("/metrics")
            connection.writer.close()
            return answer.body.decode()

        lines = [line.rsplit(" ", 1) for line in asyncio.run(read()).splitlines()]
        return next((float(value) for found, value in lines if found == name), 0.0)

    def memory(self) -> int:
        """Bytes that the process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> int:
        """Tell it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(GREETING)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if "json" in self.headers.get("content-type", "") else None


@dataclass
class Connection:
    """One connection that is kept alive."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, path: str, body: bytes | None = None, **headers: str) -> Answer:
        method = "GET" if body is None else "POST"
        fields = {"Host": "localhost", "Content-Type": "application/json"} | headers
        if body is not None:
            fields["Content-Length"] = str(len(body))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in fields.items()
        )
        self.writer.write(head.encode() + b"\r\n" + (body or b""))
        return await self.read()

    async def read(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)


async def connect(port: int) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def serving(
    project: Project, run: Path, *options: object, cold: bool = False, **settings: str
) -> Iterator[Service]:
    """Start the service of a project and wait until it is ready; kill it at the end if it still runs.

    It is a fork, or `cold`: it has to import everything itself, as that of a user.
    """
    port = free_port()
    arguments = ["-m", f"{project.package}.serve", "--run", run, "--port", port, *options]
    service = Service(start(project, list(map(str, arguments)), project.settings | settings, cold), port)
    try:
        with durations.timed("services started"):
            wait_until_ready(service)
        yield service
    finally:
        with suppress(ProcessLookupError):
            os.killpg(service.process.pid, signal.SIGKILL)  # LitServe has processes of its own
        service.process.wait()


def start(
    project: Project, arguments: list[str], settings: dict[str, str], cold: bool
) -> subprocess.Popen[bytes] | forks.Fork:
    path = project.folder / "service.log"
    path.write_bytes(b"")
    if not cold:
        return forks.start(arguments, project.folder, settings, path, path)
    with path.open("wb") as log, proofs.apart():
        return subprocess.Popen(
            [forks.python(cold=True), *arguments],
            cwd=project.folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_until_ready(service: Service) -> None:
    end = time.monotonic() + GREETING
    while time.monotonic() < end:
        assert service.process.poll() is None, f"the service ended with {service.process.returncode}"
        try:
            if service.ask("/readyz")[0] == 200:
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        time.sleep(0.1)
    raise AssertionError("the service did not get ready")
