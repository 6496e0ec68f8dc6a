"""What the trainer does with the batches of an optimizer step: each phase in turn goes over all of them, then steps."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine
from torch import Tensor

from ..distributed import parallel
from ..interface import Batch
from .loading import to_device
from .phases import Updates
from .state import Run, State

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # that a step computes in, if not in float32


def autocast(run: Run) -> AbstractContextManager[None]:
    """What the model computes in."""
    half = DTYPES.get(run.cfg.precision)
    return torch.autocast(idist.device().type, half) if half else nullcontext()


def build_state(run: Run) -> State:
    """The state of a run whose model is on its device."""
    updates = Updates(run.module, run.cfg, run.scaler)
    return State(run, updates, updates.losses)


def build_trainer(state: State, model: Any) -> Engine:
    """An engine whose step is an optimizer step of each phase."""
    run, updates, scaler = state.run, state.update, state.run.scaler
    assert isinstance(updates, Updates)

    def train_phase(phase: str, batches: list[Batch]) -> list[tuple[Tensor, Tensor]]:
        update, losses = updates.phases[phase], []
        update.optimizer.zero_grad()
        for number, batch in enumerate(batches, start=1):
            with nullcontext() if number == len(batches) else parallel.no_sync(model):
                with autocast(run):
                    total, count = model(batch, *updates.argument(phase))
                scaler.scale(update.guard.loss(total, count) / run.cfg.optim.accumulate).backward()
            losses.append((total, count))
        update.guard.prepare(run.progress.steps + 1)
        scaler.step(update.optimizer)
        scaler.update()
        update.optimizer.zero_grad()
        return losses

    def step(engine: Engine, batches: list[Batch]) -> None:
        moved = [to_device(batch, idist.device()) for batch in batches]
        losses = dict[str, list[tuple[Tensor, Tensor]]]()
        for number, phase in enumerate(updates.phases):
            state.begin(number)
            with updates.only(phase):
                losses[updates.name(phase)] = train_phase(phase, moved)
        for name, parts in losses.items():
            for total, count in parts:
                state.count(total, count, name)
        for _ in batches[1:]:
            run.progress.advance()  # the last one completes the step, see `State.advance`

    return Engine(step)
