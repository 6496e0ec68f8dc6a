"""What the Trainer does with the batches of an optimizer step: each phase in turn goes over all of them, then steps."""

from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.optim import Optimizer

from ..config import Config
from ..interface import Batch
from .phases import Updates
from .state import Run, State


class Step(pl.LightningModule):
    """An optimizer step of each phase, in manual optimization."""

    state: State  # as soon as the model is on its device

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.run, self.module, self.phase = run, run.module, ""

    def configure_optimizers(self) -> list[Optimizer]:
        self.updates = Updates(self.module, self.run.cfg, self.run.scaler)
        self.state = State(self.run, self.updates)
        return [update.optimizer for update in self.updates.phases.values()]

    def training_step(self, batches: list[Batch], batch_idx: int) -> None:
        state, updates, optimizers = self.state, self.updates, self.optimizers()
        chosen = optimizers if isinstance(optimizers, list) else [optimizers]
        losses = dict[str, list[tuple[Tensor, Tensor]]]()
        for number, (phase, optimizer) in enumerate(zip(updates.phases, chosen, strict=True)):
            self.phase = phase
            state.begin(number)
            with updates.only(phase):
                optimizer.zero_grad()
                losses[updates.name(phase)] = self.train_phase(phase, batches)
                optimizer.step()  # calls `on_before_optimizer_step`, and updates the scaler
                optimizer.zero_grad()
        for name, parts in losses.items():
            for total, count in parts:
                state.count(total, count, name)
        for _ in batches[1:]:
            self.run.progress.advance()  # the last one completes the step, see `State.advance`

    def train_phase(self, phase: str, batches: list[Batch]) -> list[tuple[Tensor, Tensor]]:
        no_sync = getattr(self.trainer.model, "no_sync", nullcontext)  # of a model that is copied to several processes
        updates, losses = self.updates, list[tuple[Tensor, Tensor]]()
        for number, batch in enumerate(batches, start=1):
            with no_sync() if number < len(batches) else nullcontext():
                total, count = self.module(batch, *updates.argument(phase))
                loss = updates.phases[phase].guard.loss(total, count)
                self.manual_backward(loss / self.run.cfg.optim.accumulate)
            losses.append((total.detach(), count))
        return losses

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.updates.phases[self.phase].guard.prepare(self.run.progress.steps + 1)


def step_options(cfg: Config) -> dict[str, Any]:
    """The arguments of `Trainer` that say what a step is: an item of the loader is a whole one."""
    return {}
