"""Save what a run needs to continue, and read it back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint

from . import storage
from .config import Config, UserError
from .engine import StepEvents, num_steps
from .model import Net
from .signals import Stop

LIBRARY = "pytorch-ignite"


def attach_checkpoints(trainer: Engine, state: dict[str, Any], cfg: Config, stop: Stop) -> None:
    """Save the complete state, after each epoch and where a signal or an error ends one."""

    def save(checkpoint: Mapping[str, Any], filename: str, *args: Any) -> None:
        if idist.get_rank() == 0:
            storage.save_checkpoint(cfg.out_dir / "checkpoints" / filename, checkpoint, LIBRARY)

    checkpoint = Checkpoint(
        state,
        save,
        filename_pattern="step-{global_step:08d}.pt",
        global_step_transform=lambda *_: num_steps(trainer),
        n_saved=None,  # `storage` keeps the newest, those of an earlier start of this run among them
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, stop.end)

    @trainer.on(Events.EXCEPTION_RAISED)
    def save_last_step(error: Exception) -> None:
        epochs, steps = divmod(num_steps(trainer), stop.steps_per_epoch)
        iteration = epochs * (trainer.state.epoch_length or 0) + steps * cfg.optim.accumulate
        if stop.salvages(num_steps(trainer), error) and trainer.state.iteration <= iteration + 1:
            trainer.state.iteration = iteration  # the one that failed counts as not begun
            checkpoint(trainer)
        raise error

    @trainer.on(StepEvents.STEP_COMPLETED)
    def stop_within_epoch() -> None:
        if stop.due(num_steps(trainer)):
            checkpoint(trainer)
            stop.end()


def load_state(path: Path, net: Net) -> dict[str, Any]:
    """Read a checkpoint of this network; raises `UserError` if it is of another, or of another framework."""
    state = storage.load_checkpoint(path)
    if "trainer" not in state:
        raise UserError(f"{path}: Ignite did not save this. Give a new run another --out_dir.")
    storage.load_weights(net, state["model"], path)
    return state
