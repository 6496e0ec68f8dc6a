"""Settings that trade time, memory and exactness, and a look at where the time goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import profile, schedule, tensorboard_trace_handler
from torch.utils.checkpoint import checkpoint

from ..config import Config
#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import UserError
from ..task.model import blocks
from .module import TrainingModule


def prepare(module: TrainingModule, cfg: Config) -> TrainingModule:
    """Set up how the network computes; its weights keep their names and values.

    Raises `UserError` where the machine or the network cannot do what the settings ask for.
    """
    net, parts = module.net, blocks(module.net)
    #: if strategy != "single"
    if cfg.sync_batchnorm and processes.world_size() > 1:
        if not torch.cuda.is_available():
            without = "Without them leave it false, or normalize each sample by itself, as GroupNorm does"
            raise UserError(f"sync_batchnorm=true: torch shares BatchNorm's statistics between GPUs only. {without}.")
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
    #: endif
    for conv in (part for part in net.modules() if cfg.channels_last and isinstance(part, nn.Conv2d)):
        # Its input is brought into this format, for free if it has it already.
        conv.register_forward_pre_hook(lambda _, x: x[0].contiguous(memory_format=torch.channels_last))
    if cfg.activation_checkpointing and not parts:
        raise UserError("activation_checkpointing=true: task.model.blocks names no blocks. Let it return some.")
    for block in parts if cfg.activation_checkpointing else []:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for part in (parts or [net]) if cfg.compile else []:
        part.compile()  # in place: `torch.compile(part)` would put a prefix before the names of the weights
    return module


@contextmanager
def profiled(cfg: Config) -> Iterator[None]:
    """Write what a few optimizer steps are spent on into `profile/`."""
    few = schedule(wait=2, warmup=2, active=6, repeat=1)  # the first steps are slower than all others
    #: if strategy == "single"
    save = tensorboard_trace_handler(f"{cfg.folder}/profile", "trace")
    #: endif
    #: if strategy != "single"
    save = tensorboard_trace_handler(f"{cfg.folder}/profile", f"rank-{processes.rank()}")
    #: endif
    with profile(schedule=few, on_trace_ready=save) as prof, register_optimizer_step_post_hook(lambda *_: prof.step()):
        yield
