"""Speed and memory of training, for loggers."""

import math
import sys
from collections.abc import Mapping
from time import perf_counter

import torch

from ..runs.metrics import Sink, send
from ..runs.progress import Progress

if sys.platform != "win32":
    import resource


class Meter:
    """Sends speed and memory to other sinks whenever the training loss is logged; validation time does not count."""

    def __init__(self, sinks: list[Sink], progress: Progress) -> None:
        self.sinks, self.progress = sinks, progress
        self.step, self.before, self.since = progress.steps, self.trained, perf_counter()

    @property
    def trained(self) -> int:
        """Samples that the run has trained on, without those that epochs skip at their ends."""
        at = self.progress
        return at.epoch * at.num_batches * at.taken + at.samples

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        if "train/loss" in metrics and step > self.step:
            seconds, samples = perf_counter() - self.since, self.trained - self.before
            values = {"train/samples_per_second": samples / seconds, "train/step_time": seconds / (step - self.step)}
            send(self.sinks, step, values | {"memory/peak_mb": peak_memory_mb()})
        self.step, self.before, self.since = step, self.trained, perf_counter()


def peak_memory_mb() -> float:
    """Peak memory of this process: on the GPU if it uses one, else in all."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (20 if sys.platform == "darwin" else 10)
