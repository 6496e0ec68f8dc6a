"""How the model is spread over processes: one full copy each (DistributedDataParallel)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from ignite import distributed as idist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer


def distribute(module: nn.Module, tally: nn.Parameter, blocks: list[nn.Module]) -> nn.Module:
    """Move the module to the device; what is returned trains it and keeps the copies equal."""
    module.to(idist.device())
    if idist.get_world_size() == 1:
        return module
    options: dict[str, Any] = {"device_ids": [idist.get_local_rank()] if torch.cuda.is_available() else None}
    #: if optimizers == "several"
    options["find_unused_parameters"] = True  # a phase uses a part of the weights
    #: endif
    return DistributedDataParallel(module, **options)


def distribute_optimizer(optimizer: Optimizer) -> Optimizer:
    """The optimizer as it is; every process has all of its state."""
    return optimizer


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Collect gradients of several batches before the processes exchange them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
