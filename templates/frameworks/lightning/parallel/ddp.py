"""How the model is spread over processes: one full copy each (DistributedDataParallel)."""

import os
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer


def placement() -> dict[str, Any]:
    """The arguments of `Trainer` that say where it trains."""
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if not dist.is_initialized():
        return {"accelerator": accelerator, "devices": 1}
    #: if optimizers == "one"
    strategy = DDPStrategy()
    #: endif
    #: if optimizers == "several"
    strategy = DDPStrategy(find_unused_parameters=True)  # a phase uses a part of the weights
    #: endif
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return {
        "accelerator": accelerator,
        "strategy": strategy,
        "devices": local,
        "num_nodes": dist.get_world_size() // local,
        "use_distributed_sampler": False,  # the loaders share the samples out themselves
    }


def distribute(module: nn.Module, tally: nn.Parameter, blocks: list[nn.Module], mesh: DeviceMesh | None) -> None:
    """Leave the module as it is; `DDPStrategy` copies it."""


def distribute_optimizer(optimizer: Optimizer) -> Optimizer:
    """The optimizer as it is; every process has all of its state."""
    return optimizer
