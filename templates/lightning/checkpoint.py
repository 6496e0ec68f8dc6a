"""Save what a run needs to continue, and the best weights for everything after it."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import CheckpointIO

from . import storage
from .config import Config, UserError
from .engine import Task
from .model import Net
from .objective import MONITOR
from .runs import Best
from .signals import Stop

LIBRARY = "pytorch-lightning"


class Files(CheckpointIO):
    """How checkpoints are written and read: with a manifest, see `storage`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        storage.save_checkpoint(Path(path), checkpoint, LIBRARY)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return storage.load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Never asked for: `storage` itself deletes the oldest."""


class KeepBest(pl.Callback):
    """Offers the weights to `best.pt` after each validation; the best score is part of every checkpoint.

    Where they are averaged, the average is what is validated and offered.
    """

    def __init__(self, best: Best) -> None:
        self.best, self.swapped = best, ExitStack()

    def on_validation_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        assert isinstance(task, Task)
        self.swapped.enter_context(task.average.applied())

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        assert isinstance(task, Task)
        self.best.offer(task.scores[MONITOR], trainer.global_step, task.net, task.confusion)
        self.swapped.close()

    def on_exception(self, *args: Any) -> None:
        self.swapped.close()

    def state_dict(self) -> dict[str, Any]:
        return self.best.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best.load_state_dict(state_dict)


class StopOnSignal(pl.Callback):
    """Saves the state of a step where a signal or an error ends the run; Lightning's handlers are not used.

    They wait for other processes, which may not have had the signal, and end a run without a checkpoint.
    """

    def __init__(self, stop: Stop, folder: Path) -> None:
        self.stop, self.folder = stop, folder
        self.complete = False  # whether the last batch completed an optimizer step

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        assert isinstance(task, Task)
        self.stop.guard = task.guard
        self.stop.listen()  # again, as Lightning has its own handlers by now
        self.last_step, self.complete = trainer.global_step, True

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        step = trainer.global_step
        self.complete = step > self.last_step
        if self.complete and self.stop.due(step):
            self.save(trainer)
            self.stop.end()
        self.last_step = step

    def on_exception(self, trainer: pl.Trainer, task: pl.LightningModule, error: BaseException) -> None:
        if trainer.training and self.complete and self.stop.salvages(trainer.global_step, error):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / f"step-{trainer.global_step:08d}.pt")

    def on_train_epoch_end(self, *args: Any) -> None:
        self.stop.end()


def build_checkpoint(cfg: Config) -> ModelCheckpoint:
    """Save the complete state after each validation as `checkpoints/step-00000080.pt`."""
    checkpoint = ModelCheckpoint(
        cfg.out_dir / "checkpoints",
        filename="step-{step:08d}",
        auto_insert_metric_name=False,
        save_top_k=-1,  # `storage` keeps the newest, those of an earlier start of this run among them
        save_on_train_epoch_end=False,  # but after the validation, also where that ends an epoch early
        enable_version_counter=False,
    )
    checkpoint.FILE_EXTENSION = ".pt"
    return checkpoint


def completed_steps(path: Path | None, net: Net) -> int:
    """The optimizer step a checkpoint of this network ends with; raises `UserError` if it is of another."""
    if path is None:
        return 0
    state = storage.load_checkpoint(path)
    if "pytorch-lightning_version" not in state:
        raise UserError(f"{path}: Lightning did not save this. Give a new run another --out_dir.")
    names = (name for name in state["state_dict"] if name.startswith("net."))
    storage.load_weights(net, {name.removeprefix("net."): state["state_dict"][name] for name in names}, path)
    return int(state["global_step"])
