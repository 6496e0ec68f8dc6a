"""What a run takes: settings that trade time, memory and exactness, and a look at where the time goes."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import profile, schedule

from .config import Config, UserError
from .model import Net
from .processes import rank, world_size

if sys.platform != "win32":
    import resource

MEASURED = ("train/samples_per_second", "train/step_time", "memory/peak_mb")  # differ from run to run


def prepare(net: Net, cfg: Config) -> Net:
    """Set up how the network computes; its weights keep their names and values.

    Raises `UserError` where the machine cannot do what the settings ask for.
    """
    if cfg.sync_batchnorm and world_size() > 1:
        if not torch.cuda.is_available():
            raise UserError(
                "sync_batchnorm=true: torch shares BatchNorm's statistics between GPUs only. Without them"
                " leave it false, or normalize each sample by itself, as GroupNorm does."
            )
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    if cfg.channels_last:
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(_channels_last)
    net.activation_checkpointing = cfg.activation_checkpointing
    if cfg.compile:
        net.compile()  # in place: `torch.compile(net)` would put a prefix before the names of the weights
    return net


@contextmanager
def profiled(cfg: Config) -> Iterator[None]:
    """Write what a few optimizer steps are spent on as `profile/rank-0.json`, if the settings ask for it."""
    if not cfg.profile:
        yield
        return

    def save(profiler: profile) -> None:
        folder = cfg.out_dir / "profile"
        folder.mkdir(exist_ok=True)
        profiler.export_chrome_trace(str(folder / f"rank-{rank()}.json"))

    few = schedule(wait=2, warmup=2, active=6, repeat=1)  # the first steps are slower than all others
    with profile(schedule=few, on_trace_ready=save) as profiler:
        hook = register_optimizer_step_post_hook(lambda *step: profiler.step())
        yield
        hook.remove()


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


def _channels_last(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """The images of a convolution with their channels side by side; the same for free if they are already."""
    return inputs[0].contiguous(memory_format=torch.channels_last)
