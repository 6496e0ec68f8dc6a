"""What the trainer does with a batch."""

#: if strategy != "single"
from contextlib import nullcontext

#: endif
import torch
from ignite import distributed as idist
from ignite.engine import Engine
from torch import Tensor, nn

#: if strategy != "single"
from ..distributed import parallel
#: endif
from ..interface import Batch
from .loading import to_device
from .optim import Update, trained_weights
from .state import Run, State


def build_state(run: Run) -> State:
    """The state of a run whose model is on its device."""
    return State(run, Update(run.module, trained_weights(run.module), run.cfg, run.scaler))


def build_trainer(state: State, model: nn.Module, autocast: torch.autocast) -> Engine:
    """An engine whose step trains on a batch, and updates the weights after `optim.accumulate` of them."""
    run, guard, optimizer, scaler = state.run, state.update.guard, state.update.optimizer, state.run.scaler

    def backward(batch: Batch) -> tuple[Tensor, Tensor]:
        with autocast:
            total, count = model(to_device(batch, idist.device()))
        scaler.scale(guard.loss(total, count) / run.cfg.optim.accumulate).backward()
        return total, count

    def step(engine: Engine, batch: Batch) -> None:
        state.begin()
        #: if strategy == "single"
        total, count = backward(batch)
        #: endif
        #: if strategy != "single"
        with nullcontext() if run.progress.ends_step else parallel.no_sync(model):
            total, count = backward(batch)
        #: endif
        if run.progress.ends_step:
            guard.prepare(run.progress.steps + 1)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        state.count(total, count)

    return Engine(step)
