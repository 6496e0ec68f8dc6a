"""How much memory a process needs for the model, from shapes alone: `train --estimate N`."""

#: if strategy == "fsdp"
import math
#: endif
from collections.abc import Iterable

import torch
from torch import Tensor

from ..config import Config
from ..errors import UserError
#: if strategy == "ddp"
from ..task.model import build
#: endif
#: if strategy == "fsdp"
from ..task.model import blocks, build
#: endif
from .module import TrainingModule, build_objective, load_data
from .optim import trained_weights


def show(cfg: Config, count: int) -> None:
    """Print the memory of each of so many processes, by what it is for. Nothing is trained or written."""
    if count < 1:
        raise UserError(f"estimate={count}: give a number of processes, 1 or more.")
    parts = reckon(cfg, count)
    print(f"memory of each of {count} processes, in MiB; activations, batches and libraries come on top:")
    for name, number in {**parts, "in all": sum(parts.values())}.items():
        print(f"  {name:28} {number / 2**20:12,.1f}")


#: if strategy == "ddp"
def size(tensors: Iterable[Tensor]) -> int:
    """Their bytes."""
    return sum(tensor.nbytes for tensor in tensors)


#: endif
#: if strategy == "fsdp"
def size(tensors: Iterable[Tensor], count: int = 1) -> int:
    """Their bytes in the first of so many processes, which share out the rows of each."""
    return sum(tensor.nbytes // len(tensor) * math.ceil(len(tensor) / count) for tensor in tensors)


#: endif
def reckon(cfg: Config, count: int) -> dict[str, int]:
    """Bytes by what they are for, of the first process; others may have a few less."""
    data = load_data(cfg)
    objective = build_objective(cfg, data)
    #: if pretrained == "none"
    device = "meta"  # shapes without content
    #: endif
    #: if pretrained == "transformers"
    device = "cpu" if cfg.model.lora_rank else "meta"  # shapes without content; adapters need some
    #: endif
    with torch.device(device):
        module = TrainingModule(build(cfg.model, data.about, data.assets, init=False), objective)
    trained, buffers = trained_weights(module), sum(buffer.nbytes for buffer in module.buffers())
    #: if strategy == "ddp"
    weights, own = size(module.parameters()), size(trained)
    meanwhile = {"gradients to be exchanged": own if count > 1 else 0}
    #: endif
    #: if strategy == "fsdp"
    weights, own = size(module.parameters(), count), size(trained, count)
    units = [size(block.parameters()) for block in blocks(module.net)]
    rest = size(module.parameters()) - sum(units)
    # While a block computes, with its gradients, the next one comes; weights in no block are whole all the time.
    meanwhile = {"blocks that are whole": 2 * rest + 3 * max(units, default=0) if count > 1 else 0}
    #: endif
    moments = {"AdamW": 2 * own, "averages of weights": own if cfg.ema_decay else 0}
    return {"weights": weights + buffers, "gradients": own, **meanwhile, **moments}
