"""What the trainer does with the batches of an optimizer step: each phase in turn goes over all of them, then steps."""

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
from .phases import Updates
from .state import Run, State


def build_state(run: Run) -> State:
    """The state of a run whose model is on its device."""
    return State(run, Updates(run.module, run.cfg, run.scaler))


def build_trainer(state: State, model: nn.Module, autocast: torch.autocast) -> Engine:
    """An engine whose step is an optimizer step of each phase."""
    run, updates, scaler = state.run, state.update, state.run.scaler
    assert isinstance(updates, Updates)

    def backward(phase: str, batch: Batch) -> tuple[Tensor, Tensor]:
        with autocast:
            total, count = model(batch, *updates.argument(phase))
        scaler.scale(updates.phases[phase].guard.loss(total, count) / run.cfg.optim.accumulate).backward()
        return total, count

    def train_phase(phase: str, batches: list[Batch]) -> list[tuple[Tensor, Tensor]]:
        update = updates.phases[phase]
        update.optimizer.zero_grad()
        #: if strategy == "single"
        losses = [backward(phase, batch) for batch in batches]
        #: endif
        #: if strategy != "single"
        losses = list[tuple[Tensor, Tensor]]()
        for number, batch in enumerate(batches, start=1):
            with nullcontext() if number == len(batches) else parallel.no_sync(model):
                losses.append(backward(phase, batch))
        #: endif
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
