"""A process group whose other members are made up, for `check_world`."""

from typing import Any
from unittest.mock import patch

import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.debugging_hooks import noop_hook
from torch.nn.modules.module import register_module_forward_pre_hook

from . import parallel


def pretend_group(rank: int, size: int) -> None:
    """Be one of so many processes without the others; only the first can train."""
    dist.init_process_group("fake", rank=rank, world_size=size)
    if rank:
        return
    new_group = dist.new_group
    with patch.object(dist, "new_group", lambda **_: new_group()):  # Ignite asks for gloo, which would wait
        parallel.join()

    def keep_gradients(module: Any, inputs: Any) -> None:
        if hasattr(module, "register_comm_hook"):  # it adds up gradients itself
            module.register_comm_hook(None, noop_hook)  # the fake group returns no sum
            hook.remove()

    hook = register_module_forward_pre_hook(keep_gradients)
