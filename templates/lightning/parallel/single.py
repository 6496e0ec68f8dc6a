"""How the model is spread over processes: it is not, one process trains on one device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from .config import UserError
from .processes import world_size


@contextmanager
def process_group() -> Iterator[None]:
    """Refuse to train the same model several times side by side."""
    if world_size() > 1:
        raise UserError(f"torchrun started {world_size()} processes; this project trains in one. Choose strategy=ddp.")
    yield


def placement() -> dict[str, Any]:
    """The arguments of `Trainer` that say where it trains."""
    return {"accelerator": "cuda" if torch.cuda.is_available() else "cpu", "devices": 1}


def distribute(net: nn.Module, mesh: DeviceMesh | None) -> None:
    """Nothing to spread, with one process."""
