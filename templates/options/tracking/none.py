"""Where metrics go: to metrics.csv."""

from contextlib import ExitStack

from ..config import Config
from ..runs.metrics import MetricsFile, Sink
from ..runs.progress import Progress


def open_sinks(cfg: Config, progress: Progress, stack: ExitStack, logged: bool) -> list[Sink]:
    """What takes the metrics of a run, for the first process."""
    return [MetricsFile(cfg.folder, progress)]
