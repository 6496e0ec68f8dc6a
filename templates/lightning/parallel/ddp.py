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
from torch.distributed.algorithms.ddp_comm_hooks.debugging_hooks import noop_hook
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel


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


def pretend_group(size: int) -> None:
    """Be the first of so many processes without the others, for `check_world`."""
    dist.init_process_group("fake", rank=0, world_size=size)

    def keep_gradients(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, DistributedDataParallel):
            module.register_comm_hook(None, noop_hook)  # the fake group returns no sum
            hook.remove()

    hook = register_module_forward_pre_hook(keep_gradients)


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
        "use_distributed_sampler": False,  # the loaders share the samples out themselves
    }


def distribute(net: nn.Module, mesh: DeviceMesh | None) -> None:
    """Leave the network as it is; `DDPStrategy` copies it."""
