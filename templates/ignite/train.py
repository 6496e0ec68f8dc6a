"""Train the model: `python -m <package>.train [--config FILE.yaml] [--group.name value ...]`.

In several processes: `torchrun --nproc-per-node N -m <package>.train [...]`.
"""

import gc
import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import Any

import torch
from ignite.engine import Events
from ignite.handlers import Checkpoint, EarlyStopping

from . import checkpoint, data, engine, loggers, objective, optim, parallel, processes, runs, signals, speed
from .config import Config, checked, parse, plain_errors
from .model import Net
from .progress import START, Progress


def run(cfg: Config, report: runs.Report = None) -> float:
    """Train once; return the best validation score (`objective.MONITOR`), the same in every process.

    `report` is given (epoch, score) after each epoch, and may raise in all processes to end the run. Raises
    `UserError` before anything is written when the settings, the data or the run's folder do not allow it.
    """
    torch.set_num_threads(cfg.num_threads or torch.get_num_threads())
    cfg = processes.recall_parts(replace(cfg, num_threads=torch.get_num_threads()))
    try:
        return train(cfg, report)
    except torch.OutOfMemoryError as error:
        cfg = speed.halve_parts(cfg, error)
    gc.collect()  # the model that was too large, which is in reference cycles
    return run(cfg, report)


def train(cfg: Config, report: runs.Report) -> float:
    """Train with the memory that there is."""
    images = data.load_images(cfg.data)
    torch.manual_seed(cfg.seed)
    net = speed.prepare(Net(cfg.model, images.shape[0], len(images.classes)), cfg)

    path = runs.find_checkpoint(cfg)
    saved = checkpoint.load_state(path, net) if path else None
    progress = Progress(len(images.train), cfg, saved["progress"] if saved else START)
    loaders = data.build_loaders(images, cfg, progress)
    if saved and (score := runs.finished_score(cfg, progress.goal)) is not None:
        return score
    with runs.start(cfg, progress.steps), ExitStack() as stack:
        stack.enter_context(speed.profiled(cfg) if cfg.profile else nullcontext())
        sinks = loggers.open_loggers(cfg, progress, stack) if processes.rank() == 0 else []
        if progress.steps < progress.goal:
            fit(engine.Task(net, cfg, runs.Best(cfg, images), progress, report), loaders, sinks, saved)
        return runs.finish(cfg, progress.goal)


def fit(task: engine.Task, loaders: data.Loaders, sinks: list[runs.Sink], saved: dict[str, Any] | None = None) -> None:
    """Train and validate until the goal is reached."""
    cfg, (train_loader, val_loader) = task.cfg, loaders
    with signals.Stop(cfg, task.progress) as stop:
        stop.guard = task.guard
        trainer, evaluator = engine.build_trainer(task), engine.build_evaluator(task)
        stopper = EarlyStopping(cfg.patience or sys.maxsize, lambda e: e.state.metrics[objective.MONITOR], trainer)
        evaluator.add_event_handler(Events.COMPLETED, stopper)
        loggers.attach_loggers(sinks, trainer, evaluator, task)

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate() -> None:
            task.average.swap()
            metrics = evaluator.run(val_loader).metrics
            task.best.offer(metrics[objective.MONITOR], task.progress.steps, task.net, metrics["confusion"])
            task.average.swap()
            task.progress.judge(metrics["val/loss"])
            optim.set_rate(task.optimizer, task.progress)
            if task.progress.steps == cfg.max_steps:
                trainer.terminate()
            if task.report:
                task.report(trainer.state.epoch, metrics[objective.MONITOR])

        state = {"early_stopping": stopper, "best": task.best, "train_loss": task.loss}
        state |= {"model": task.net, "optimizer": task.optimizer, "scaler": task.scaler}
        checkpoint.attach_checkpoints(trainer, state, cfg, stop)
        if saved:
            with checked(f"resume={cfg.resume}"):
                Checkpoint.load_objects({name: part for name, part in state.items() if saved[name]}, saved)
        trainer.run(train_loader)
        stop.end()


def main() -> None:
    with plain_errors(), parallel.process_group():
        cfg, _ = parse("train")
        torch.set_float32_matmul_precision("high")
        best = run(cfg)
        if processes.rank() == 0:
            print(f"best {objective.MONITOR} {best:.4f}; weights, metrics and pictures are in {cfg.out_dir}")


if __name__ == "__main__":
    main()
