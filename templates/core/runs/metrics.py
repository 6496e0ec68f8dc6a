"""Where metrics go while a run trains."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from ..errors import checked
from . import files
from .progress import Progress


class Sink(Protocol):
    """Takes metrics."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...


def send(sinks: list[Sink], step: int, metrics: dict[str, float]) -> None:
    """Log values that were reached with optimizer step `step`."""
    for sink in sinks:
        sink.log_metrics(metrics, step)


class MetricsFile:
    """`metrics.csv`, a row for each value: step, epoch (from 1), name, value."""

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self.path, self.progress = folder / "metrics.csv", progress

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Append values that were reached with optimizer step `step`."""
        epoch = self.progress.shown_epoch if self.progress else 1
        rows = "".join(f"{step},{epoch},{name},{value:.6g}\n" for name, value in metrics.items())
        files.insist(self.path, partial(files.append, self.path, rows, self.path.stat().st_size))

    def read(self) -> list[list[str]]:
        """The rows below the header; a last one that was not written to its end is left out."""
        with checked(self.path):
            lines = self.path.read_text().split("\n")[1:-1] if self.path.exists() else []
            rows = (line.split(",") for line in lines)
            return [[f"{int(step)}", epoch, name, f"{float(value):.6g}"] for step, epoch, name, value in rows]

    def cut(self, step: int) -> None:
        """Keep the rows up to a step; those after it will be written again."""
        rows = [["step", "epoch", "name", "value"], *(row for row in self.read() if int(row[0]) <= step)]
        files.save_text(self.path, "".join(",".join(row) + "\n" for row in rows))
