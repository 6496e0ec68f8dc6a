"""How the model is spread over processes: each holds a part of every weight (`sharding`)."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy
from torch.distributed.device_mesh import DeviceMesh

from .model import Net
from .sharding import shard, shard_states


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started; a plain `python -m` trains alone."""
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    yield
    gc.collect()  # a sharded model in a reference cycle that outlives its group can end in an abort
    dist.destroy_process_group()


def pretend_group(size: int) -> None:
    """Be the first of so many processes without the others, for `check_world`."""
    dist.init_process_group("fake", rank=0, world_size=size)


class Sharded(ModelParallelStrategy):
    """Saves and loads states like any other strategy, as `sharding` makes them whole.

    Lightning's own way numbers the optimizer's states anew, and reads checkpoints past `checkpoint.Files`.
    """

    lightning_restore_optimizer = True
    lightning_module_state_dict = Strategy.lightning_module_state_dict
    load_model_state_dict = Strategy.load_model_state_dict
    optimizer_state = Strategy.optimizer_state
    load_optimizer_state_dict = Strategy.load_optimizer_state_dict
    load_checkpoint = Strategy.load_checkpoint

    def setup_optimizers(self, trainer: pl.Trainer) -> None:
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            shard_states(optimizer)


def placement() -> dict[str, Any]:
    """The arguments of `Trainer` that say where it trains."""
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if not dist.is_initialized():
        return {"accelerator": accelerator, "devices": 1}
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return {
        "accelerator": accelerator,
        "strategy": Sharded(dist.get_world_size(), 1, save_distributed_checkpoint=False),
        "devices": local,
        "num_nodes": dist.get_world_size() // local,
        "use_distributed_sampler": False,  # the loaders share the samples out themselves
    }


def distribute(net: Net, mesh: DeviceMesh | None) -> None:
    """Spread the network over the processes of Lightning's mesh, if there are several."""
    if mesh is not None:
        shard(net, mesh["data_parallel"])
