"""How the model is spread over processes: each holds a part of every weight (`sharding`)."""

import os
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from .sharding import shard, shard_states


def placement() -> dict[str, Any]:
    """The arguments of `Trainer` that say where it trains."""
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if not dist.is_initialized():
        return {"accelerator": accelerator, "devices": 1}
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return {
        "accelerator": accelerator,
        "strategy": ModelParallelStrategy(dist.get_world_size(), 1, save_distributed_checkpoint=False),
        "devices": local,
        "num_nodes": dist.get_world_size() // local,
        "use_distributed_sampler": False,  # the loaders share the samples out themselves
    }


def distribute(module: nn.Module, tally: nn.Parameter, blocks: list[nn.Module], mesh: DeviceMesh | None) -> None:
    """Spread the module over the processes of Lightning's mesh, if there are several."""
    if mesh is not None:
        module.to(mesh.device_type)
        shard(module, tally, blocks, mesh["data_parallel"])


def distribute_optimizer(optimizer: Optimizer) -> Optimizer:
    """Prepare an optimizer of the module for its checkpoints."""
    shard_states(optimizer)
    return optimizer
