"""How the model is spread over processes: it is not, one process trains on one device."""

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer


def placement() -> dict[str, Any]:
    """The arguments of `Trainer` that say where it trains."""
    return {"accelerator": "cuda" if torch.cuda.is_available() else "cpu", "devices": 1}


def distribute(module: nn.Module, tally: nn.Parameter, blocks: list[nn.Module], mesh: DeviceMesh | None) -> None:
    """Nothing to spread, with one process."""


def distribute_optimizer(optimizer: Optimizer) -> Optimizer:
    """The optimizer as it is; all of its state is here."""
    return optimizer
