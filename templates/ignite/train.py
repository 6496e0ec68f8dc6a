"""Train the model: `python -m <package>.train [--config FILE.yaml] [--group.name value ...]`.

In several processes: `torchrun --nproc-per-node N -m <package>.train [...]`.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, EarlyStopping
from torch.optim.lr_scheduler import ReduceLROnPlateau

from .checkpoint import attach_checkpoints, load_state
from .config import Config, parse, plain_errors
from .data import Images, Loaders, TrainBatches, build_loaders, load_images
from .engine import StepEvents, Training, build_evaluator, build_trainer, num_steps
from .loggers import attach_loggers, open_loggers
from .model import Net
from .objective import MONITOR
from .optim import steps_per_epoch, total_steps
from .parallel import process_group
from .processes import rank
from .runs import Best, MetricsFile, Sink, find_checkpoint, finish, finished_score, start
from .signals import Stop
from .speed import halve_parts, prepare, profiled, recall_parts

Report = Callable[[int, float], None]


def run(cfg: Config, report: Report | None = None) -> float:
    """Train once; return the best validation score (`objective.MONITOR`), the same in every process.

    `report` is given (epoch, score) after each epoch, and may raise in all processes to end the run. Raises
    `UserError` before anything is written when the settings, the data or the run's folder do not allow it.
    """
    torch.set_num_threads(cfg.num_threads or torch.get_num_threads())
    cfg = recall_parts(replace(cfg, num_threads=torch.get_num_threads()))
    try:
        return train(cfg, report)
    except torch.OutOfMemoryError as error:
        cfg = halve_parts(cfg, error)
    return run(cfg, report)


def train(cfg: Config, report: Report | None) -> float:
    """Train with the memory that there is."""
    images = load_images(cfg.data)
    torch.manual_seed(cfg.seed)
    net = prepare(Net(cfg.model, images.shape[0], len(images.classes)), cfg)

    checkpoint = find_checkpoint(cfg)
    saved = load_state(checkpoint, net) if checkpoint else None
    step = saved["trainer"]["step"] if saved else 0
    loaders = build_loaders(images, cfg, step)
    goal = total_steps(cfg, len(loaders[0]))
    if saved and (score := finished_score(cfg, goal)) is not None:
        return score
    start(cfg, step)

    with open_loggers(cfg, MetricsFile(cfg.out_dir, steps_per_epoch(cfg, len(loaders[0])))) as loggers:
        if step < goal:
            with profiled(cfg):
                fit(net, images, loaders, loggers, cfg, report, saved)
        return finish(cfg, goal)


def fit(
    net: Net,
    images: Images,
    loaders: Loaders,
    loggers: list[Sink],
    cfg: Config,
    report: Report | None = None,
    saved: dict[str, Any] | None = None,
) -> None:
    """Train and validate until the goal is reached."""
    with Stop(cfg, len(loaders[0])) as stop:
        trainer, state = assemble(net, images, loaders, loggers, cfg, stop, report)
        attach_checkpoints(trainer, state, cfg, stop)
        attach_max_steps(trainer, cfg.max_steps)
        if saved:
            Checkpoint.load_objects(state, saved)
        trainer.run(loaders[0], max_epochs=cfg.epochs)
        stop.end()


def assemble(
    net: Net,
    images: Images,
    loaders: Loaders,
    loggers: list[Sink],
    cfg: Config,
    stop: Stop,
    report: Report | None,
) -> tuple[Engine, dict[str, Any]]:
    """The trainer with all that happens around its steps, and the state that its checkpoints hold."""
    train_loader, val_loader = loaders
    training = Training(net, cfg, total_steps(cfg, len(train_loader)))
    stop.guard = training.guard
    trainer = build_trainer(training, cfg)
    evaluator = build_evaluator(net, cfg, len(images.classes))
    best = Best(cfg, images)
    stopper = EarlyStopping(cfg.patience or sys.maxsize, score, trainer)
    evaluator.add_event_handler(Events.COMPLETED, stopper)
    attach_loggers(loggers, trainer, evaluator, training, cfg)

    @trainer.on(Events.EPOCH_STARTED)
    def shuffle() -> None:
        cast("TrainBatches", train_loader.sampler).set_epoch(trainer.state.epoch - 1)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        with training.average.applied():
            metrics = evaluator.run(val_loader).metrics
            best.offer(metrics[MONITOR], num_steps(trainer), net, metrics["confusion"])
        if isinstance(training.schedule, ReduceLROnPlateau):
            training.schedule.step(metrics["val/loss"])
        if report:
            report(trainer.state.epoch, metrics[MONITOR])

    state = {"trainer": trainer, "best": best, "early_stopping": stopper, "model": net}
    state |= {"optimizer": training.optimizer, "schedule": training.schedule, "scaler": training.scaler}
    state |= {"train_loss": training.loss, "average": training.average}
    return trainer, state


def attach_max_steps(trainer: Engine, max_steps: int) -> None:
    """End the run after so many optimizer steps, with a validation and a checkpoint; -1 sets no bound."""

    @trainer.on(StepEvents.STEP_COMPLETED)
    def end_epoch() -> None:
        if num_steps(trainer) == max_steps:
            trainer.terminate_epoch()

    @trainer.on(Events.EPOCH_COMPLETED)
    def end_run() -> None:
        if num_steps(trainer) == max_steps:
            trainer.terminate()


def score(evaluator: Engine) -> float:
    """What best.pt, early stopping and a search go by; larger is better."""
    value: float = evaluator.state.metrics[MONITOR]
    return value


def main() -> None:
    with plain_errors(), process_group():
        cfg, _ = parse("train")
        torch.set_float32_matmul_precision("high")
        best = run(cfg)
        if rank() == 0:
            print(f"best {MONITOR} {best:.4f}; weights, metrics and pictures are in {cfg.out_dir}")


if __name__ == "__main__":
    main()
