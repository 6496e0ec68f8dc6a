"""Train the model: `python -m <package>.train [--config FILE.yaml] [--group.name value ...]`.

In several processes: `torchrun --nproc-per-node N -m <package>.train [...]`.
"""

import gc
import logging
import sys
import warnings
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks

from . import checkpoint, data, engine, loggers, objective, parallel, processes, runs, signals, speed
from .config import Config, checked, parse, plain_errors
from .model import Net
from .progress import START, Progress


class EarlyStopping(callbacks.EarlyStopping):
    """Ends a run whose score gets no better; one that is resumed has the patience of its own settings."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})


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

    saved = runs.find_checkpoint(cfg)
    progress = Progress(len(images.train), cfg, checkpoint.load_progress(saved, net) if saved else START)
    loaders = data.build_loaders(images, cfg, progress)
    if saved and (score := runs.finished_score(cfg, progress.goal)) is not None:
        return score
    with runs.start(cfg, progress.steps), ExitStack() as stack:
        stack.enter_context(speed.profiled(cfg) if cfg.profile else nullcontext())
        sinks = loggers.open_loggers(cfg, progress, stack) if processes.rank() == 0 else []
        if progress.steps < progress.goal:
            fit(engine.Task(net, cfg, runs.Best(cfg, images), progress, report), loaders, sinks, saved)
        return runs.finish(cfg, progress.goal)


def fit(task: engine.Task, loaders: data.Loaders, sinks: list[runs.Sink], saved: Path | None = None) -> None:
    """Train and validate until the goal is reached."""
    cfg = task.cfg
    with signals.Stop(cfg, task.progress) as stop:
        trainer = pl.Trainer(
            **parallel.placement(),
            plugins=[engine.build_precision(cfg), checkpoint.Files()],
            max_epochs=cfg.epochs,
            accumulate_grad_batches=cfg.optim.accumulate,
            callbacks=build_callbacks(cfg, sinks, stop),
            logger=[sink for sink in sinks if isinstance(sink, pl.loggers.Logger)],
            log_every_n_steps=cfg.log_every,
            num_sanity_val_steps=0,
            enable_checkpointing=False,  # `SaveState` does that
            enable_model_summary=False,
        )
        with checked(f"resume={cfg.resume}", begun=lambda: not saved or hasattr(stop, "guard")):
            trainer.fit(task, *loaders, ckpt_path=saved)
        stop.end()


def build_callbacks(cfg: Config, sinks: list[runs.Sink], stop: signals.Stop) -> list[pl.Callback]:
    """What happens around the steps, in this order after each validation; the checkpoint comes last."""
    patience = cfg.patience or sys.maxsize
    return [
        loggers.LogMetrics(sinks),
        EarlyStopping(objective.MONITOR, mode="max", patience=patience, check_on_train_epoch_end=False),
        callbacks.TQDMProgressBar(cfg.log_every if sys.stderr.isatty() else 0),  # drawing takes as long as a small step
        checkpoint.SaveState(stop, cfg.out_dir / "checkpoints"),
    ]


def main() -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Lightning calls what torch deprecates, and cannot know that scores are of all processes.
    warnings.filterwarnings("ignore", ".*(treespec, LeafSpec|many workers|the logging interval|sync_dist=True)")
    with plain_errors(), parallel.process_group():
        cfg, _ = parse("train")
        torch.set_float32_matmul_precision("high")
        score = run(cfg)
        if processes.rank() == 0:
            print(f"best {objective.MONITOR} {score:.4f}; weights, metrics and pictures are in {cfg.out_dir}")


if __name__ == "__main__":
    main()
