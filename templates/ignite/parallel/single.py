"""How the model is spread over processes: it is not, one process trains on one device."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from ignite import distributed as idist
from torch import nn
from torch.optim import Optimizer

from .config import UserError
from .processes import world_size


@contextmanager
def process_group() -> Iterator[None]:
    """Refuse to train the same model several times side by side."""
    if world_size() > 1:
        raise UserError(f"torchrun started {world_size()} processes; this project trains in one. Choose strategy=ddp.")
    yield


def distribute(net: nn.Module) -> nn.Module:
    """Move the network to the device; what is returned trains it."""
    return net.to(idist.device())


def distribute_optimizer(optimizer: Optimizer) -> Optimizer:
    """The optimizer as it is; all of its state is here."""
    return optimizer


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Collect gradients of several batches; one process has nobody to wait for."""
    return nullcontext()
