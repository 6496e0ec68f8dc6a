"""How the model is spread over processes: one full copy each (DistributedDataParallel)."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh


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
    gc.collect()  # a DDP wrapper in a reference cycle that outlives its group can hang gloo
    dist.destroy_process_group()


def placement() -> dict[str, Any]:
    """The arguments of `Trainer` that say where it trains."""
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if not dist.is_initialized():
        return {"accelerator": accelerator, "devices": 1}
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return {
        "accelerator": accelerator,
        "strategy": DDPStrategy(),
        "devices": local,
        "num_nodes": dist.get_world_size() // local,
    }


def distribute(net: nn.Module, mesh: DeviceMesh | None) -> None:
    """Leave the network as it is; `DDPStrategy` copies it."""
