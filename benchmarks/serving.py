"""How fast services answer: ours, LitServe's and a plain FastAPI endpoint, with the same model, in turn."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sklearn.datasets import load_digits  # type: ignore[import-untyped]

from tests.support.projects import Project, rendered, write
from tests.support.services import Service, connect, free_port, serving

CLIENTS = (1, 16, 64)
ROUNDS = 5
SECONDS = 3.0  # of each measurement, after a third of that to warm up

# What many people write first, and what ours must never be slower than.
PLAIN = """
import sys
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession("runs/0001/export/model.onnx", options)
app = FastAPI()


class Inputs(BaseModel):
    inputs: list[list[list[list[int]]]]


class Prediction(BaseModel):
    label: str
    index: int
    probability: float


class Predictions(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
async def predict(body: Inputs) -> Predictions:
    [answers] = session.run(None, {"images": np.array(body.inputs, np.uint8)})
    best = answers.argmax(1).tolist()
    return Predictions(
        predictions=[
            Prediction(label=str(index), index=index, probability=float(row[index]))
            for row, index in zip(answers, best, strict=True)
        ]
    )


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}


uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
"""


@dataclass(frozen=True)
class Figures:
    """One measurement."""

    rate: float  # requests a second
    p50: float  # milliseconds
    p99: float


async def measure_once(port: int, content: bytes, clients: int) -> Figures:
    """Let clients send one request after another, each on a connection of its own."""
    begin = time.perf_counter() + SECONDS / 3
    end, waits = begin + SECONDS, []

    async def client() -> None:
        connection = await connect(port)
        while (sent := time.perf_counter()) < end:
            answer = await connection.ask("/predict", content)
            assert answer.status == 200, answer
            if sent > begin:
                waits.append(1000 * (time.perf_counter() - sent))
        connection.writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    waits.sort()
    return Figures(len(waits) / SECONDS, waits[len(waits) // 2], waits[len(waits) * 99 // 100])


@contextmanager
def plain(project: Project) -> Iterator[Service]:
    (project.folder / "plain.py").write_text(PLAIN)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "plain.py", str(port)], cwd=project.folder, env=project.settings
    )
    try:
        while not answers(port):
            assert process.poll() is None
            time.sleep(0.1)
        yield Service(process, port)
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    async def ask() -> bool:
        return (await (await connect(port)).ask("/readyz")).status == 200

    try:
        return asyncio.run(ask())
    except OSError:
        return False


def project_with(service: str, folder: Path) -> Project:
    return Project(write(rendered({"framework": "ignite", "serving": service}), folder), "my_project")


def table(figures: dict[tuple[str, int], list[Figures]]) -> str:
    lines = ["| clients | service | requests/s | p50, ms | p99, ms | of ours, rate | of ours, p99 |"]
    lines.append("|---|---|---|---|---|---|---|")
    for (name, clients), rounds in figures.items():
        ours = figures["ours (FastAPI)", clients]
        rate, p50, p99 = (median(getattr(one, part) for one in rounds) for part in ("rate", "p50", "p99"))
        by_rate = median(one.rate / our.rate for one, our in zip(rounds, ours, strict=True))
        by_p99 = median(one.p99 / our.p99 for one, our in zip(rounds, ours, strict=True))
        lines.append(
            f"| {clients} | {name} | {rate:.0f} | {p50:.2f} | {p99:.2f} | {by_rate:.2f} | {by_p99:.2f} |"
        )
    return "\n".join(lines)


def measure() -> str:
    """The page docs/benchmarks/serving.md."""
    image = (load_digits().images[0] * 255 / 16).astype(int).tolist()
    content = json.dumps({"inputs": [[image]]}).encode()
    figures: dict[tuple[str, int], list[Figures]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        ours, lit = (project_with(kind, Path(name) / kind) for kind in ("fastapi", "litserve"))
        ours.run("-m", "my_project.train", "--epochs", "3", "--num_threads", "1")
        ours.run("-m", "my_project.export")
        run = ours.folder / "runs/0001"
        services = {
            "ours (FastAPI)": stack.enter_context(serving(ours, run)),
            "LitServe": stack.enter_context(serving(lit, run)),
            "plain FastAPI": stack.enter_context(plain(ours)),
        }
        for _ in range(ROUNDS):
            for clients in CLIENTS:
                for service, live in services.items():
                    found = asyncio.run(measure_once(live.port, content, clients))
                    figures.setdefault((service, clients), []).append(found)
    figures = dict(sorted(figures.items(), key=lambda item: item[0][1]))
    return f"""# Serving

`make bench ARGS=serving` printed this: {ROUNDS} rounds of {SECONDS:g} s for each service and number of
clients, in turn, on one machine. One handwritten digit a request, as JSON; the default model in ONNX Runtime
with one thread; each service with its defaults. The client is one asyncio process on the same machine, which
takes its share of the cores. Rates and times are medians over the rounds; the last two columns are medians of
ratios within a round.

{table(figures)}
"""
