"""What the trainer does with a batch."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine

from ..distributed import parallel
from ..interface import Batch
from .loading import to_device
from .optim import Update, trained_weights
from .state import Run, State

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # that a step computes in, if not in float32


def autocast(run: Run) -> AbstractContextManager[None]:
    """What the model computes in."""
    half = DTYPES.get(run.cfg.precision)
    return torch.autocast(idist.device().type, half) if half else nullcontext()


def build_state(run: Run) -> State:
    """The state of a run whose model is on its device."""
    return State(run, Update(run.module, trained_weights(run.module), run.cfg, run.scaler))


def build_trainer(state: State, model: Any) -> Engine:
    """An engine whose step trains on a batch, and updates the weights after `optim.accumulate` of them."""
    run, guard, optimizer, scaler = state.run, state.update.guard, state.update.optimizer, state.run.scaler

    def step(engine: Engine, batch: Batch) -> None:
        state.begin()
        ends_step = run.progress.ends_step
        with nullcontext() if ends_step else parallel.no_sync(model):
            with autocast(run):
                total, count = model(to_device(batch, idist.device()))
            scaler.scale(guard.loss(total, count) / run.cfg.optim.accumulate).backward()
        if ends_step:
            guard.prepare(run.progress.steps + 1)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        state.count(total, count)

    return Engine(step)
