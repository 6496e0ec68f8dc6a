"""How the model is spread over processes: one full copy each (DistributedDataParallel)."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from ignite import distributed as idist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def join() -> None:
    """Let Ignite know of the processes that torchrun has started."""
    with patch.dict(os.environ):
        os.environ.pop("SLURM_JOB_ID", None)  # it would believe Slurm's variables, not torchrun's
        idist.sync()


def distribute(module: nn.Module, tally: nn.Parameter, blocks: list[nn.Module]) -> nn.Module:
    """Move the module to the device; what is returned trains it and keeps the copies equal."""
    if idist.model_name() == "serial":  # Ignite has not looked at the processes yet
        join()
    module.to(idist.device())
    if idist.get_world_size() == 1:
        return module
    options: dict[str, Any] = {"device_ids": [idist.get_local_rank()] if torch.cuda.is_available() else None}
    #: if optimizers == "several"
    options["find_unused_parameters"] = True  # a phase uses a part of the weights
    #: endif
    return DistributedDataParallel(module, **options)


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Collect gradients of several batches before the processes exchange them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
