"""Save what a run needs to continue, and read it back."""

from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine, Events

from . import engine, signals, storage
from .config import Config, UserError, checked
from .model import Net
from .progress import START


def attach_checkpoints(trainer: Engine, state: dict[str, Any], cfg: Config, stop: signals.Stop) -> None:
    """Save the complete state, after each epoch and where a signal or an error ends one."""

    def save() -> None:
        content = {name: part.state_dict() for name, part in state.items()}  # all processes take part in this
        if idist.get_rank() == 0:
            path = cfg.out_dir / "checkpoints" / f"step-{stop.progress.steps:08d}.pt"
            storage.save_checkpoint(path, content | {"progress": stop.progress.state_dict()}, "pytorch-ignite")

    trainer.add_event_handler(Events.EPOCH_COMPLETED, save)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, stop.end)

    @trainer.on(Events.EXCEPTION_RAISED)
    def save_last_step(error: Exception) -> None:
        if stop.salvages(error) and trainer.state.iteration <= stop.progress.batches + 1:
            save()  # the batch that failed counts as not begun
        raise error

    @trainer.on(engine.StepEvents.STEP_COMPLETED)
    def stop_within_epoch() -> None:
        if stop.due(stop.progress.steps):
            save()
            stop.end()


def load_state(path: Path, net: Net) -> dict[str, Any]:
    """Read a checkpoint of this network; raises `UserError` if it is of another, or of another framework."""
    with checked(path):
        state = storage.load_checkpoint(path)
        if "model" not in state:
            raise UserError(f"{path}: Ignite did not save this. Give a new run another --out_dir.")
        storage.load_weights(net, state["model"], path)
        return state | {"progress": {name: type(value)(state["progress"][name]) for name, value in START.items()}}
