"""Send bodies that are no requests, or hardly, to the app of a project in this process. A script, no test:

    python tests/support/serving_bodies.py PACKAGE RUN NUMBER [GOOD]

GOOD is a body that is none of them; without it, one of images. It prints how often each status came, as JSON.
Any exception ends it.
"""

import asyncio
import importlib
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

PIECES: tuple[bytes, ...] = (
    b"NaN",
    b"Infinity",
    b"-1",
    b"1e999",
    b"256",
    b"null",
    b"true",
    b'""',
    b"[]",
    b"{}",
    b'"\\ud800"',
    b"\xff",
)
PIECES += (b"[" * 2000, b'{"inputs":' * 300, b"9" * 5000, b'"' + b"A" * 5000 + b'"', b",", b"]", b"}", b'"')
TYPES = (
    "application/json",
    "text/plain",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "",
    "\xff",
)
FORM = b'--x\r\nContent-Disposition: form-data; name="inputs"; filename="a.png"\r\n\r\nno image\r\n--x--\r\n'


def body(rng: random.Random, good: bytes) -> bytes:
    """A body that was good, or a form, after up to four things happened to it."""
    content = bytearray(rng.choice((good, good, FORM, b"")))
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(content))
        kind = rng.randrange(4)
        if kind == 0:
            content[at:at] = rng.choice(PIECES)
        elif kind == 1:
            del content[at : at + rng.choice((1, 3, 20, 10_000))]
        elif kind == 2 and content:
            content[at % len(content)] = rng.randrange(256)
        else:
            content[at : at + rng.randint(1, 8)] = rng.choice(PIECES)
    return bytes(content)


async def send(app: Any, content: bytes, kind: str, announced: str) -> int:
    headers = [(b"content-type", kind.encode("latin-1")), (b"content-length", announced.encode())]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
    }
    scope |= {"path": "/predict", "raw_path": b"/predict", "query_string": b"", "headers": headers}
    scope |= {"scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": ""}
    middle = len(content) // 2
    parts = [content[:middle], content[middle:]]
    statuses = []

    async def receive() -> dict[str, Any]:
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def note(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await asyncio.wait_for(app(scope, receive, note), 60)
    return int(statuses[0])


async def send_all(app: Any, good: bytes, number: int) -> Counter[int]:
    rng, statuses = random.Random(0), Counter[int]()
    for _ in range(number):
        content = body(rng, good)
        announced = rng.choice((str(len(content)), str(len(content)), "", "-1", "1e9", str(10**30)))
        statuses[await send(app, content, rng.choice(TYPES), announced)] += 1
    return statuses


def main() -> None:
    package, run, number, *given = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]
    service, settings = (
        importlib.import_module(f"{package}.serving.{name}") for name in ("service", "settings")
    )
    app = service.build_app(run, settings.Settings(max_body_mb=0.01))
    good = given[0] if given else json.dumps({"inputs": [[[[0, 128, 255, 3] * 2] * 8]] * 2})
    print(json.dumps(asyncio.run(send_all(app, good.encode(), number))))


if __name__ == "__main__":
    main()
