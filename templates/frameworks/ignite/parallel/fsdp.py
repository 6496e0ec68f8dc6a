"""How the model is spread over processes: each holds a part of every weight (`sharding`)."""

import os
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import torch.distributed as dist
from ignite import distributed as idist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from .sharding import shard


def join() -> None:
    """Let Ignite know of the processes that torchrun has started."""
    with patch.dict(os.environ):
        os.environ.pop("SLURM_JOB_ID", None)  # it would believe Slurm's variables, not torchrun's
        idist.sync()


def distribute(module: nn.Module, tally: nn.Parameter, blocks: list[nn.Module]) -> nn.Module:
    """Move the module to the device; what is returned trains it."""
    if idist.model_name() == "serial":  # Ignite has not looked at the processes yet
        join()
    module.to(idist.device())
    if dist.is_initialized():
        shard(module, tally, blocks, init_device_mesh(idist.device().type, (idist.get_world_size(),)))
    return module


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Exchange gradients after each batch all the same: those that wait would be there whole."""
    return nullcontext()
