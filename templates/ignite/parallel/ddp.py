"""How the model is spread over processes: one full copy each (DistributedDataParallel)."""

import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from ignite import distributed as idist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.debugging_hooks import noop_hook
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started; a plain `python -m` trains alone."""
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    idist.initialize("nccl" if torch.cuda.is_available() else "gloo")
    yield
    gc.collect()  # a DDP wrapper in a reference cycle that outlives its group can hang gloo
    idist.finalize()


def pretend_group(size: int) -> None:
    """Be the first of so many processes without the others, for `check_world`."""
    dist.init_process_group("fake", rank=0, world_size=size)
    new_group = dist.new_group
    with patch.object(dist, "new_group", lambda **_: new_group()):  # Ignite asks for gloo, which would wait
        idist.sync()

    def keep_gradients(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, DistributedDataParallel):
            module.register_comm_hook(None, noop_hook)  # the fake group returns no sum
            hook.remove()

    hook = register_module_forward_pre_hook(keep_gradients)


def distribute(net: nn.Module) -> nn.Module:
    """Move the network to the device; what is returned trains it and keeps the copies equal."""
    net = net.to(idist.device())
    if idist.get_world_size() == 1:
        return net
    return DistributedDataParallel(net, device_ids=[idist.get_local_rank()] if torch.cuda.is_available() else None)


def distribute_optimizer(optimizer: Optimizer) -> Optimizer:
    """The optimizer as it is; every process has all of its state."""
    return optimizer


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Collect gradients of several batches before the processes exchange them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
