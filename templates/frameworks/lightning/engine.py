"""What the Trainer runs, besides the step of training itself."""

import logging
import sys
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
#: if strategy == "single"
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
#: endif
from pytorch_lightning import callbacks
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from torch import Tensor
from torchmetrics import Metric

from .. import seeding
#: if strategy != "single"
from ..distributed import parallel
#: endif
from ..interface import Batch
#: if strategy == "fsdp"
from ..task.model import blocks
#: endif
from .loading import Loader
from .state import Run
from .step import Step, step_options


class Sums(Metric):
    """Adds up what `Objective.measure` returns for each batch."""

    def update(self, sums: dict[str, Tensor]) -> None:
        for name, value in sums.items():
            if f"sum_{name}" not in self._defaults:
                self.add_state(f"sum_{name}", torch.zeros_like(value), "sum")
            setattr(self, f"sum_{name}", getattr(self, f"sum_{name}") + value)

    def compute(self) -> dict[str, Tensor]:
        return {name.removeprefix("sum_"): getattr(self, name) for name in self._defaults}


class Training(Step):
    """A run as Lightning trains it; the strategy wraps this module, and so network and objective."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.sums = Sums()

    #: if strategy == "fsdp"
    def configure_model(self) -> None:
        parallel.distribute(self.module, self.module.tally, blocks(self.module.net), self.device_mesh)

    #: endif
    def on_train_start(self) -> None:
        self.run.stop.listen()  # again, as Lightning has put its own handlers in place
        epoch = self.run.progress.epoch  # that the progress bar begins with
        vars(self.trainer.fit_loop.epoch_progress.current).update(processed=epoch, completed=epoch)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        validates = self.state.advance()
        self.trainer.val_check_batch = batch_idx + 1 if validates else sys.maxsize

    def on_validation_start(self) -> None:
        self.state.update.swap()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.sums.update(self.module(batch, generator=seeding.generator(batch_idx + 1, self.global_rank)))

    def on_validation_epoch_end(self) -> None:
        self.state.validated(self.sums.compute())
        self.sums.reset()
        self.trainer.should_stop = self.state.done


class Salvage(callbacks.Callback):
    """Saves the state after the last step when an error ends the run."""

    def on_exception(self, trainer: pl.Trainer, training: Any, error: BaseException) -> None:
        if trainer.training and hasattr(training, "state"):
            training.state.salvage(error)


def build_precision(run: Run) -> Precision:
    """What a step computes in.

    `Trainer(precision="16-mixed")` would compute in bfloat16 on a CPU and not say so; this plugin, with a gradient
    scaler for the device, does not.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if run.cfg.precision == "fp16":
        return MixedPrecision("16-mixed", device, run.scaler)
    return MixedPrecision("bf16-mixed", device) if run.cfg.precision == "bf16" else Precision()


def fit(run: Run, loaders: tuple[Loader, Loader]) -> None:
    """Train and validate until the goal is reached, or the run ends early."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Lightning calls what torch deprecates; and it cannot know that a loader resumes.
    warnings.filterwarnings("ignore", ".*(treespec, LeafSpec|many workers|is not resumable|`srun`)")
    trainer = pl.Trainer(
        #: if strategy == "single"
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=1,
        plugins=[build_precision(run), LightningEnvironment()],  # one process, even in Slurm
        #: endif
        #: if strategy != "single"
        **parallel.placement(build_precision(run)),
        #: endif
        max_epochs=-1,  # `State` knows when a run ends
        **step_options(run.cfg),
        reload_dataloaders_every_n_epochs=1,  # an epoch that was resumed is shorter than others
        # Drawing the bar takes as long as a small step.
        callbacks=[Salvage(), callbacks.TQDMProgressBar(run.cfg.log_every if sys.stderr.isatty() else 0)],
        logger=False,  # `State` sends metrics to the loggers, and saves
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )
    trainer.fit(Training(run), *loaders)
