"""Train the model: `python -m <package>.train [--config FILE.yaml] [--group.name value ...]`.

In several processes: `torchrun --nproc-per-node N -m <package>.train [...]`.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, EarlyStopping
from torch.optim.lr_scheduler import ReduceLROnPlateau

from . import objective, optim, parallel, processes, runs, signals, speed
from .checkpoint import attach_checkpoints, load_state
from .config import Config, parse, plain_errors
from .data import Loaders, build_loaders, load_images
from .engine import Task, build_evaluator, build_trainer, num_steps
from .loggers import attach_loggers, open_loggers
from .model import Net

Report = Callable[[int, float], None] | None  # is given (epoch, score) after each epoch
State = dict[str, Any]


def run(cfg: Config, report: Report = None) -> float:
    """Train once; return the best validation score (`objective.MONITOR`), the same in every process.

    `report` is given (epoch, score) after each epoch, and may raise in all processes to end the run. Raises
    `UserError` before anything is written when the settings, the data or the run's folder do not allow it.
    """
    torch.set_num_threads(cfg.num_threads or torch.get_num_threads())
    cfg = speed.recall_parts(replace(cfg, num_threads=torch.get_num_threads()))
    try:
        return train(cfg, report)
    except torch.OutOfMemoryError as error:
        cfg = speed.halve_parts(cfg, error)
    return run(cfg, report)


def train(cfg: Config, report: Report) -> float:
    """Train with the memory that there is."""
    images = load_images(cfg.data)
    torch.manual_seed(cfg.seed)
    net = speed.prepare(Net(cfg.model, images.shape[0], len(images.classes)), cfg)

    checkpoint = runs.find_checkpoint(cfg)
    saved = load_state(checkpoint, net) if checkpoint else None
    step = saved["trainer"]["step"] if saved else 0
    loaders = build_loaders(images, cfg, step)
    goal = optim.total_steps(cfg, len(loaders[0]))
    if saved and (score := runs.finished_score(cfg, goal)) is not None:
        return score
    runs.start(cfg, step)

    with ExitStack() as stack, speed.profiled(cfg):
        metrics_file = runs.MetricsFile(cfg.out_dir, optim.steps_per_epoch(cfg, len(loaders[0])))
        loggers = open_loggers(cfg, metrics_file, stack)
        if step < goal:
            fit(Task(net, cfg, runs.Best(cfg, images), goal), loaders, loggers, report, saved)
        return runs.finish(cfg, goal)


def fit(
    task: Task, loaders: Loaders, loggers: list[runs.Sink], report: Report = None, saved: State | None = None
) -> None:
    """Train and validate until the goal is reached."""
    cfg, (train_loader, val_loader) = task.cfg, loaders
    with signals.Stop(cfg, len(train_loader)) as stop:
        stop.guard = task.guard
        trainer, evaluator = build_trainer(task), build_evaluator(task)
        stopper = EarlyStopping(cfg.patience or sys.maxsize, score, trainer)
        evaluator.add_event_handler(Events.COMPLETED, stopper)
        attach_loggers(loggers, trainer, evaluator, task)

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate() -> None:
            task.average.swap()
            metrics = evaluator.run(val_loader).metrics
            task.best.offer(metrics[objective.MONITOR], num_steps(trainer), task.net, metrics["confusion"])
            task.average.swap()
            if isinstance(task.schedule, ReduceLROnPlateau):
                task.schedule.step(metrics["val/loss"])
            if num_steps(trainer) == cfg.max_steps:
                trainer.terminate()
            if report:
                report(trainer.state.epoch, metrics[objective.MONITOR])

        state = {"trainer": trainer, "early_stopping": stopper, **task.state()}
        attach_checkpoints(trainer, state, cfg, stop)
        if saved:
            Checkpoint.load_objects(state, saved)
        trainer.run(train_loader, max_epochs=cfg.epochs)
        stop.end()


def score(evaluator: Engine) -> float:
    """What best.pt, early stopping and a search go by; larger is better."""
    return float(evaluator.state.metrics[objective.MONITOR])


def main() -> None:
    with plain_errors(), parallel.process_group():
        cfg, _ = parse("train")
        torch.set_float32_matmul_precision("high")
        best = run(cfg)
        if processes.rank() == 0:
            print(f"best {objective.MONITOR} {best:.4f}; weights, metrics and pictures are in {cfg.out_dir}")


if __name__ == "__main__":
    main()
