"""How the model is spread over processes: each holds a part of every weight (`sharding`)."""

import os
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from .sharding import shard


def placement(precision: Precision) -> dict[str, Any]:
    """The arguments of `Trainer` that say where it trains, with the plugin for its precision."""
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if not dist.is_initialized():
        # One process, even in Slurm.
        return {"accelerator": accelerator, "devices": 1, "plugins": [precision, LightningEnvironment()]}
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return {
        "accelerator": accelerator,
        "plugins": [precision],
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
