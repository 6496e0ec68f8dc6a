"""What the Trainer does with a batch."""

from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.optim import Optimizer

from ..config import Config
from ..interface import Batch
from .optim import Update, trained_weights
from .state import Run, State


class Step(pl.LightningModule):
    """A step of training; the Trainer accumulates batches and steps the optimizer."""

    state: State  # as soon as the model is on its device

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run, self.module = run, run.module

    def configure_optimizers(self) -> Optimizer:
        update = Update(self.module, trained_weights(self.module), self.run.cfg, self.run.scaler)
        self.state = State(self.run, update)
        return update.optimizer

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.state.begin()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        total, count = self.module(batch)
        self.state.count(total, count)
        return self.state.update.guard.loss(total, count)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.state.update.guard.prepare(self.run.progress.steps + 1)


def step_options(cfg: Config) -> dict[str, Any]:
    """The arguments of `Trainer` that say what a step is."""
    return {"accumulate_grad_batches": cfg.optim.accumulate}
