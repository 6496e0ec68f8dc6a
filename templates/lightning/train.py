"""Train the model: `python -m <package>.train [--config FILE.yaml] [--group.name value ...]`.

In several processes: `torchrun --nproc-per-node N -m <package>.train [...]`.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, TQDMProgressBar
from pytorch_lightning.loggers import Logger

from .checkpoint import Files, KeepBest, StopOnSignal, build_checkpoint, completed_steps
from .config import Config, parse, plain_errors
from .data import Images, Loaders, build_loaders, load_images
from .engine import Task, build_precision
from .loggers import build_log_callbacks, open_loggers
from .model import Net
from .objective import MONITOR
from .optim import steps_per_epoch, total_steps
from .parallel import placement, process_group
from .processes import rank
from .runs import Best, MetricsFile, find_checkpoint, finish, finished_score, start
from .signals import Stop
from .speed import halve_parts, prepare, profiled, recall_parts

Report = Callable[[int, float], None]

NOISE = (
    "You're resuming from a checkpoint that ended before",  # `TrainBatches` begins where it ended
    "Checkpoint directory .* exists and is not empty",  # so it is when a run is resumed
    ".*does not have many workers",  # images in memory need none
    ".*sync_dist=True",  # the scores that are logged are those of all processes already
    ".*isinstance.treespec, LeafSpec.",  # Lightning itself calls what torch deprecates
)


class ReportScore(pl.Callback):
    """Tells the caller of `run` each epoch's score; it may raise to end the run."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        assert isinstance(task, Task)
        self.report(trainer.current_epoch + 1, task.scores[MONITOR])


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
    step = completed_steps(checkpoint, net)
    loaders = build_loaders(images, cfg, step)
    goal = total_steps(cfg, len(loaders[0]))
    if checkpoint and (score := finished_score(cfg, goal)) is not None:
        return score
    start(cfg, step)

    with open_loggers(cfg, MetricsFile(cfg.out_dir, steps_per_epoch(cfg, len(loaders[0])))) as loggers:
        if step < goal:
            with profiled(cfg):
                fit(net, images, loaders, loggers, cfg, report, checkpoint)
        return finish(cfg, goal)


def fit(
    net: Net,
    images: Images,
    loaders: Loaders,
    loggers: list[Logger],
    cfg: Config,
    report: Report | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Train and validate until the goal is reached."""
    task = Task(net, cfg, len(images.classes), total_steps(cfg, len(loaders[0])))
    with Stop(cfg, len(loaders[0])) as stop:
        callbacks = [*build_callbacks(cfg, images, report), StopOnSignal(stop, cfg.out_dir / "checkpoints")]
        build_trainer(cfg, loggers, callbacks).fit(task, *loaders, ckpt_path=checkpoint)
        stop.end()


def build_trainer(cfg: Config, loggers: list[Logger], callbacks: list[pl.Callback]) -> pl.Trainer:
    """The loop around the steps."""
    return pl.Trainer(
        **placement(),
        plugins=[build_precision(cfg), Files()],
        max_epochs=cfg.epochs,
        accumulate_grad_batches=cfg.optim.accumulate,
        callbacks=callbacks,
        logger=loggers,
        log_every_n_steps=cfg.log_every,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the loaders share the samples out themselves
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )


def build_callbacks(cfg: Config, images: Images, report: Report | None) -> list[pl.Callback]:
    """What happens around the steps, in this order after each validation; the checkpoint comes last."""
    callbacks = [*build_log_callbacks(), KeepBest(Best(cfg, images)), build_checkpoint(cfg)]
    if cfg.patience:
        callbacks.append(
            EarlyStopping(MONITOR, mode="max", patience=cfg.patience, check_on_train_epoch_end=False)
        )
    if report:
        callbacks.append(ReportScore(report))
    if sys.stderr.isatty():
        callbacks.append(TQDMProgressBar(refresh_rate=cfg.log_every))  # drawing takes as long as a small step
    return callbacks


def quiet_lightning() -> None:
    """Leave out what Lightning says that is of no use here, or not true of this project."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)


def main() -> None:
    quiet_lightning()
    with plain_errors(), process_group():
        cfg, _ = parse("train")
        torch.set_float32_matmul_precision("high")
        score = run(cfg)
        if rank() == 0:
            print(f"best {MONITOR} {score:.4f}; weights, metrics and pictures are in {cfg.out_dir}")


if __name__ == "__main__":
    main()
