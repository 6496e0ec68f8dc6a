"""Settings that trade time, memory and exactness, and a look at where the time goes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import profile, schedule, tensorboard_trace_handler

from .config import Config
from .model import Net
from .processes import rank, share_batchnorm


def prepare(net: Net, cfg: Config) -> Net:
    """Set up how the network computes; its weights keep their names and values.

    Raises `UserError` where the machine cannot do what the settings ask for.
    """
    if cfg.sync_batchnorm:
        share_batchnorm(net)
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
    """Write what a few optimizer steps are spent on into `profile/`, if the settings ask for it."""
    if not cfg.profile:
        yield
        return
    few = schedule(wait=2, warmup=2, active=6, repeat=1)  # the first steps are slower than all others
    save = tensorboard_trace_handler(str(cfg.out_dir / "profile"), f"rank-{rank()}")
    with profile(schedule=few, on_trace_ready=save) as profiler:
        hook = register_optimizer_step_post_hook(lambda *step: profiler.step())
        yield
        hook.remove()


def _channels_last(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """The images of a convolution with their channels side by side; the same for free if they are already."""
    return inputs[0].contiguous(memory_format=torch.channels_last)
