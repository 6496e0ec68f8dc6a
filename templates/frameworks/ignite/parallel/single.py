"""How the model is spread over processes: it is not, one process trains on one device."""

from contextlib import AbstractContextManager, nullcontext

from ignite import distributed as idist
from torch import nn
from torch.optim import Optimizer


def distribute(module: nn.Module, tally: nn.Parameter, blocks: list[nn.Module]) -> nn.Module:
    """Move the module to the device; what is returned trains it."""
    return module.to(idist.device())


def distribute_optimizer(optimizer: Optimizer) -> Optimizer:
    """The optimizer as it is; all of its state is here."""
    return optimizer


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Collect gradients of several batches; one process has nobody to wait for."""
    return nullcontext()
