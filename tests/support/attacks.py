"""Attacks on a service of this machine, each bounded in time, bytes and connections, and what they do:

    python -m tests.support.attacks FRAMEWORK SERVICE [ATTACK ...]

trains a small project, serves it, attacks it, and prints a row an attack: by how much the memory of all its
processes grew, and how long others waited at worst: for /livez, for a prediction from an array, and for one
from an image file. The statuses are those of the others' answers, 0 for none.
"""

import base64
import io
import json
import re
import resource
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from PIL import Image

from mlscaffold.catalogue.questions import Answers
from tests.support.projects import Project, rendered, write
from tests.support.services import Service, serving

LIMIT_S = 40  # that an attack may take, and that anybody waits for an answer
ROOM = 384  # descriptors of an attacked service
MB = 2**20
TRAIN = """
import sys
from my_project import config, train
from my_project.serving import exported
options = "--out_dir runs/default --max_steps 5 --num_threads 1 --model.width 8 --precision fp32"
sys.argv = ["train", *options.split()]
cfg, _ = config.parse("train")
train.run(cfg)
exported.export(cfg.out_dir, cfg, ["onnx"])
"""

Attack = Callable[[int], None]  # on a port


def exchange(port: int, content: bytes, ends: bool = True) -> int:
    """Send bytes on a connection of their own; return the status of the answer, 0 where there is none."""
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as connection,
    ):
        with suppress(OSError):  # the service may answer, and close, before it has read all
            connection.sendall(content)
        head = connection.recv(4096) if ends else b""
        return int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0
    return 0


def request(body: bytes, kind: str = "application/json", path: str = "/predict") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def in_json(*files: bytes) -> bytes:
    return request(json.dumps({"inputs": [base64.b64encode(file).decode() for file in files]}).encode())


def image(form: str, size: tuple[int, int], mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


def scans(size: tuple[int, int], number: int) -> bytes:
    """A progressive JPEG whose scans come again and again; a decoder goes through all pixels for each."""
    file = io.BytesIO()
    Image.new("L", size, 128).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * number + content[-2:]


def tile(side: int) -> bytes:
    """A TIFF of 16 x 16 pixels in one tile that has many more, deflated."""
    compressor = zlib.compressobj(9)
    data = b"".join(compressor.compress(bytes(side)) for _ in range(side)) + compressor.flush()
    tags = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side)]
    tags += [(324, 8), (325, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory


def together(port: int, *contents: bytes) -> None:
    """Send requests at the same time, and wait for all answers."""
    threads = [threading.Thread(target=exchange, args=(port, content), daemon=True) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)


def flood(port: int, head: bytes, part: bytes, most: int) -> None:
    """Begin a request, and go on with one part of it over and over."""
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as connection,
    ):
        connection.sendall(head)
        for _ in range(most // len(part)):
            connection.sendall(part)


def crowd(port: int, number: int, first: bytes, seconds: float) -> None:
    """Hold connections that have said this and say no more."""
    held = []
    for _ in range(number):
        with suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=1))
            held[-1].sendall(first)
    time.sleep(seconds)
    for connection in held:
        connection.close()


HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def many(port: int, attack: Attack, number: int) -> None:
    threads = [threading.Thread(target=attack, args=(port,), daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)


@cache
def attacks() -> dict[str, Attack]:
    """By name; their bytes are made once."""
    keys = b"{" + b",".join(b'"%d":1' % i for i in range(700_000)) + b"}"
    lists = b'{"inputs":[' + b",".join([b"[]"] * 2_700_000) + b"]}"
    nested = b'{"inputs":[[' + b",".join([b"[[0]]"] * 1_350_000) + b"]]}"
    digits = b'{"inputs":[[[[' + b"9" * 8_000_000 + b"]]]]}"
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n'
    form = part + b"A: " + b"b" * 7_900_000 + b"\r\n\r\n--x--\r\n"
    fields = part + b"a: b\r\n" * 1_300_000 + b"\r\n--x--\r\n"
    kind = "multipart/form-data; boundary=x"
    requests = {
        "many keys": [request(keys)] * 2,
        "empty lists": [request(lists)] * 2,
        "small lists": [request(nested)] * 2,
        "a long number": [request(digits)] * 2,
        "a form's headers": [request(form, kind), request(fields, kind)],
        "JPEG 2000": [in_json(*[image("JPEG2000", (4900, 4900))] * 4)] * 4,
        "large images": [in_json(*[image("PNG", (4900, 4900), "1")] * 24)] * 4,
        "scans of a JPEG": [in_json(scans((3000, 3000), 15_000))] * 2,
        "a TIFF's tile": [in_json(tile(20_000))] * 2,
    }
    made: dict[str, Attack] = {
        name: partial(lambda port, contents: together(port, *contents), contents=contents)
        for name, contents in requests.items()
    }
    header, line = b"b" * 2**16, b"a: b\r\n" * 10_000
    floods = {
        "many headers": (HEAD, line),
        "a long header": (HEAD + b"A: ", header),
        "a long address": (b"GET /", header),
        "trailers": (CHUNKED + b"0\r\n", line),
        "a long chunk size": (CHUNKED + b"1;", header),
    }
    for name, (head, part) in floods.items():
        one = partial(flood, head=head, part=part, most=8 * MB)
        made[name] = partial(many, attack=one, number=8)
    unread = partial(flood, head=b"", part=(HEAD + b"\r\n") * 4000, most=4 * MB)
    made["pipelined requests"] = partial(many, attack=unread, number=8)
    made["idle connections"] = partial(crowd, number=2 * ROOM, first=b"", seconds=12)
    made["slow headers"] = partial(crowd, number=2 * ROOM, first=HEAD, seconds=12)
    return made


@dataclass
class Waits:
    """How long one kind of request took at worst, in seconds, while others attack."""

    content: bytes
    longest: float = 0
    statuses: Counter[int] = field(default_factory=Counter)

    def go_on(self, port: int, done: threading.Event) -> None:
        while not done.wait(0.03):
            begin = time.monotonic()
            self.statuses[exchange(port, self.content)] += 1
            self.longest = max(self.longest, time.monotonic() - begin)


def memory(session: int) -> int:
    """Bytes that processes of a session hold each for itself.

    What they share is left out: a share of the pages that forks have in common grows when other forks end.
    """
    total = 0
    for entry in Path("/proc").iterdir():
        with suppress(OSError, IndexError, ValueError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found = (entry / "smaps_rollup").read_text()
                own = re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB$", found, re.MULTILINE)
                total += 1024 * sum(map(int, own))
    return total


@dataclass
class Damage:
    """What an attack did."""

    grown: int  # bytes
    waits: dict[str, Waits]


def suffer(live: Service, attack: Attack, probes: dict[str, bytes]) -> Damage:
    """Attack a service; others use it meanwhile."""
    done, before = threading.Event(), memory(live.process.pid)
    waits = {name: Waits(content) for name, content in probes.items()}
    threads = [threading.Thread(target=wait.go_on, args=(live.port, done)) for wait in waits.values()]
    peak = before

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, memory(live.process.pid))

    threads.append(threading.Thread(target=watch))
    for thread in threads:
        thread.start()
    try:
        attack(live.port)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return Damage(peak - before, waits)


def probes() -> dict[str, bytes]:
    """What others ask for."""
    array = json.dumps({"inputs": [[[[128] * 8] * 8]]}).encode()
    get = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    return {"/livez": get, "array": request(array), "file": in_json(image("PNG", (64, 64)))}


@contextmanager
def attacked(project: Project, *options: object) -> Iterator[Service]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (ROOM, before[1]))  # which the service inherits
    try:
        with serving(project, project.folder / "runs/default", *options) as live:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            yield live
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def main() -> None:
    framework, service, *names = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        answers: Answers = {"framework": framework, "serving": service, "loggers": []}
        project = Project(write(rendered(answers), Path(folder)), "my_project")
        project.run("-c", TRAIN)
        print(
            "| attack | memory, MB | /livez, s | array, s | file, s | statuses |\n|---|--:|--:|--:|--:|---|"
        )
        for name in names or attacks():
            with attacked(project) as live:
                time.sleep(1)
                damage = suffer(live, attacks()[name], probes())
                seen = sum((wait.statuses for wait in damage.waits.values()), Counter[int]())
                waited = " | ".join(f"{wait.longest:.2f}" for wait in damage.waits.values())
                print(f"| {name} | {damage.grown / MB:.0f} | {waited} | {dict(seen)} |", flush=True)


if __name__ == "__main__":
    main()
