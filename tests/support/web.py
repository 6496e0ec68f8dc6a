"""A real `mlscaffold web`, and requests to it as its page, or anybody else, would send them."""

import http.client
import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.command import COMMAND
from tests.support.releases import clean_settings

TOKEN = "X-Mlscaffold-Token"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> dict[str, object]:
        assert self.status == 200, self.text
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Web:
    process: "subprocess.Popen[str]"
    address: str  # as it is printed, with its token
    folder: Path  # where projects are made

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0

    @property
    def token(self) -> str:
        return self.address.partition("#token=")[2]

    def ask(self, path: str, body: object = None, **headers: str) -> Answer:
        """Send what the page would send; `headers` replace its own, `_` is for `-`, empty ones go away."""
        sent = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        origin = f"http://127.0.0.1:{self.port}"
        usual = {TOKEN: self.token, "Origin": origin, "Content-Length": str(len(sent))}
        return self.request("POST", path, sent, usual | {n.replace("_", "-"): v for n, v in headers.items()})

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, b"", headers)

    def request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders()
            with suppress(BrokenPipeError, ConnectionResetError):  # it may be refused by its head alone
                connection.send(body)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def stop(self) -> tuple[int, str]:
        """Press Ctrl-C; return the exit code and what was said on stderr."""
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said


@contextmanager
def web(folder: Path, *, port: int = 0, opens: bool = False, **settings: str) -> Iterator[Web]:
    """Start `mlscaffold web` as a user does, in a folder; it has ended afterwards."""
    process = subprocess.Popen(
        [*COMMAND, "web", "--port", str(port), *([] if opens else ["--no-open"])],
        cwd=folder,
        env=clean_settings() | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored by a shell's background jobs
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("The page is at http://127.0.0.1:"), process.communicate()[1]
        yield Web(process, line.split()[-1], folder)
    finally:
        process.kill()
        process.communicate()
