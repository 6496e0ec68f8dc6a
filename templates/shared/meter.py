"""How fast training is and what memory it takes, for what shows such values while a run lasts."""

import math
import sys
from time import perf_counter

import torch

from .processes import world_size

if sys.platform != "win32":
    import resource


class Meter:
    """How fast training is, by the clock: it runs while batches are trained on, not during a validation."""

    def __init__(self, step: int = 0) -> None:
        self.samples, self.step, self.seconds, self.since = 0, step, 0.0, perf_counter()

    def start(self) -> None:
        self.since = perf_counter()

    def stop(self) -> None:
        self.seconds += perf_counter() - self.since

    def read(self, step: int) -> dict[str, float]:
        """What there was until optimizer step `step`, since the last time; read it when the step is done."""
        self.stop()
        values = {
            "train/samples_per_second": self.samples * world_size() / self.seconds,
            "train/step_time": self.seconds / (step - self.step),
            "memory/peak_mb": peak_memory_mb(),
        }
        self.samples, self.step, self.seconds, self.since = 0, step, 0.0, perf_counter()
        return values


def peak_memory_mb() -> float:
    """The most memory this process has held at a time: on the GPU, or where it uses none, all in all."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (20 if sys.platform == "darwin" else 10)
