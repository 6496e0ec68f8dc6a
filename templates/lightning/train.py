"""Train the model: `python -m <package>.train [--config FILE.yaml] [--group.name value ...]`.

In several processes: `torchrun --nproc-per-node N -m <package>.train [...]`.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks
from pytorch_lightning.loggers import Logger

from . import objective, optim, parallel, processes, runs, signals, speed
from .checkpoint import Files, SaveState, completed_steps
from .config import Config, parse, plain_errors
from .data import Loaders, build_loaders, load_images
from .engine import Task, build_precision
from .loggers import build_log_callbacks, open_loggers
from .model import Net

Report = Callable[[int, float], None] | None  # is given (epoch, score) after each epoch

NOISE = (
    "You're resuming from a checkpoint that ended before",  # `TrainBatches` begins where it ended
    ".*does not have many workers",  # images in memory need none
    ".*sync_dist=True",  # the scores that are logged are those of all processes already
    ".*isinstance.treespec, LeafSpec.",  # Lightning itself calls what torch deprecates
)


class EarlyStopping(callbacks.EarlyStopping):
    """Ends a run whose score gets no better; one that is resumed has the patience of its own settings."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})


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
    step = completed_steps(checkpoint, net)
    loaders = build_loaders(images, cfg, step)
    goal = optim.total_steps(cfg, len(loaders[0]))
    if checkpoint and (score := runs.finished_score(cfg, goal)) is not None:
        return score
    runs.start(cfg, step)

    with ExitStack() as stack, speed.profiled(cfg):
        metrics_file = runs.MetricsFile(cfg.out_dir, optim.steps_per_epoch(cfg, len(loaders[0])))
        loggers = open_loggers(cfg, metrics_file, stack)
        if step < goal:
            fit(Task(net, cfg, runs.Best(cfg, images), goal), loaders, loggers, report, checkpoint)
        return runs.finish(cfg, goal)


def fit(
    task: Task, loaders: Loaders, loggers: list[Logger], report: Report = None, checkpoint: Path | None = None
) -> None:
    """Train and validate until the goal is reached."""
    cfg = task.cfg
    with signals.Stop(cfg, len(loaders[0])) as stop:
        trainer = pl.Trainer(
            **parallel.placement(),
            plugins=[build_precision(cfg), Files()],
            max_epochs=cfg.epochs,
            accumulate_grad_batches=cfg.optim.accumulate,
            callbacks=build_callbacks(cfg, report, stop),
            logger=loggers,
            log_every_n_steps=cfg.log_every,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the loaders share the samples out themselves
            enable_checkpointing=False,  # `SaveState` does that
            enable_model_summary=False,
        )
        trainer.fit(task, *loaders, ckpt_path=checkpoint)
        stop.end()


def build_callbacks(cfg: Config, report: Report, stop: signals.Stop) -> list[pl.Callback]:
    """What happens around the steps, in this order after each validation; the checkpoint comes last."""
    patience = cfg.patience or sys.maxsize
    refresh_rate = cfg.log_every if sys.stderr.isatty() else 0  # drawing takes as long as a small step
    tell = report or (lambda epoch, score: None)
    return [
        *build_log_callbacks(),
        EarlyStopping(objective.MONITOR, mode="max", patience=patience, check_on_train_epoch_end=False),
        callbacks.LambdaCallback(
            on_validation_end=lambda _, task: tell(task.current_epoch + 1, task.scores[objective.MONITOR])
        ),
        callbacks.TQDMProgressBar(refresh_rate),
        SaveState(stop, cfg.out_dir / "checkpoints"),
    ]


def quiet_lightning() -> None:
    """Leave out what Lightning says that is of no use here, or not true of this project."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "|".join(NOISE))


def main() -> None:
    quiet_lightning()
    with plain_errors(), parallel.process_group():
        cfg, _ = parse("train")
        torch.set_float32_matmul_precision("high")
        score = run(cfg)
        if processes.rank() == 0:
            print(f"best {objective.MONITOR} {score:.4f}; weights, metrics and pictures are in {cfg.out_dir}")


if __name__ == "__main__":
    main()
