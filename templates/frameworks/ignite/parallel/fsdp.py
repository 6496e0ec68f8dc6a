"""How the model is spread over processes: each holds a part of every weight (`sharding`)."""

from contextlib import AbstractContextManager, nullcontext

import torch.distributed as dist
from ignite import distributed as idist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer

from .sharding import shard, shard_states


def distribute(module: nn.Module, tally: nn.Parameter, blocks: list[nn.Module]) -> nn.Module:
    """Move the module to the device; what is returned trains it."""
    module.to(idist.device())
    if dist.is_initialized():
        shard(module, tally, blocks, init_device_mesh(idist.device().type, (idist.get_world_size(),)))
    return module


def distribute_optimizer(optimizer: Optimizer) -> Optimizer:
    """Prepare an optimizer of the module for its checkpoints."""
    shard_states(optimizer)
    return optimizer


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Exchange gradients after each batch all the same: those that wait would be there whole."""
    return nullcontext()
