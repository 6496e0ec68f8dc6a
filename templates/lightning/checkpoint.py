"""Save what a run needs to continue, and the best weights for everything after it."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.io import CheckpointIO

from . import signals, storage
from .config import UserError, checked
from .model import Net
from .progress import START


class Files(CheckpointIO):
    """How checkpoints are written and read: with a manifest, see `storage`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        storage.save_checkpoint(Path(path), checkpoint, "pytorch-lightning")

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return storage.load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Never asked for: `storage` itself deletes the oldest."""


class SaveState(pl.Callback):
    """Saves the complete state as `checkpoints/step-00000080.pt`: after validations, signals and errors.

    Lightning's own handlers of signals wait for other processes, which may not have had one, and end a run
    without a checkpoint.
    """

    def __init__(self, stop: signals.Stop, folder: Path) -> None:
        # `complete` says whether the last batch completed an optimizer step, or all is as it was saved.
        self.stop, self.folder, self.complete = stop, folder, False

    def on_train_start(self, trainer: pl.Trainer, task: Any) -> None:
        self.stop.guard, self.complete = task.guard, True
        self.stop.listen()  # again, as Lightning has its own handlers by now

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, *args: Any) -> None:
        self.complete = not task.losses
        if self.complete and self.stop.due(trainer.global_step):
            self.on_validation_end(trainer)

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.save(trainer)
        self.stop.end()

    def on_exception(self, trainer: pl.Trainer, task: Any, error: BaseException) -> None:
        if trainer.training and self.complete and self.stop.salvages(error):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / f"step-{trainer.global_step:08d}.pt")


def load_progress(path: Path, net: Net) -> dict[str, Any]:
    """Where a run of this network was at a checkpoint; raises `UserError` if it is of another."""
    with checked(path):
        state = storage.load_checkpoint(path)
        if "pytorch-lightning_version" not in state:
            raise UserError(f"{path}: Lightning did not save this. Give a new run another --out_dir.")
        weights = {name[4:]: value for name, value in state["state_dict"].items() if name.startswith("net.")}
        storage.load_weights(net, weights, path)
        return {name: type(value)(state["progress"][name]) for name, value in START.items()}
