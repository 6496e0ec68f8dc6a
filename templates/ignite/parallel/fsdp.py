"""How the model is spread over processes: each holds a part of every weight (`sharding`)."""

import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest.mock import patch

import torch
import torch.distributed as dist
from ignite import distributed as idist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer

from .model import Net
from .sharding import shard, shard_states


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started; a plain `python -m` trains alone."""
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    idist.initialize("nccl" if torch.cuda.is_available() else "gloo")
    yield
    gc.collect()  # a sharded model in a reference cycle that outlives its group can end in an abort
    idist.finalize()


def pretend_group(size: int) -> None:
    """Be the first of so many processes without the others, for `check_world`."""
    dist.init_process_group("fake", rank=0, world_size=size)
    new_group = dist.new_group
    with patch.object(dist, "new_group", lambda **_: new_group()):  # Ignite asks for gloo, which would wait
        idist.sync()


def distribute(net: Net) -> nn.Module:
    """Move the network to the device; what is returned trains it."""
    net.to(idist.device())
    if dist.is_initialized():
        shard(net, init_device_mesh(idist.device().type, (idist.get_world_size(),)))
    return net


def distribute_optimizer(optimizer: Optimizer) -> Optimizer:
    """Prepare an optimizer of the network for its checkpoints."""
    shard_states(optimizer)
    return optimizer


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Exchange gradients after each batch all the same: those that wait would be there whole."""
    return nullcontext()
