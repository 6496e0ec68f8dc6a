"""How the model is spread over processes: `DDPStrategy` gives each a full copy (DistributedDataParallel)."""

import os
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.strategies import DDPStrategy


def placement(precision: Precision) -> dict[str, Any]:
    """The arguments of `Trainer` that say where it trains, with the plugin for its precision."""
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if not dist.is_initialized():
        # One process, even in Slurm.
        return {"accelerator": accelerator, "devices": 1, "plugins": [precision, LightningEnvironment()]}
    #: if optimizers == "one"
    strategy = DDPStrategy()
    #: endif
    #: if optimizers == "several"
    strategy = DDPStrategy(find_unused_parameters=True)  # a phase uses a part of the weights
    #: endif
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return {
        "accelerator": accelerator,
        "plugins": [precision],
        "strategy": strategy,
        "devices": local,
        "num_nodes": dist.get_world_size() // local,
        "use_distributed_sampler": False,  # the loaders share the samples out themselves
    }
