"""Where metrics go: files, and the terminal."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import (
    Logger,
    #: if "tensorboard" in loggers
    TensorBoardLogger,
    #: endif
)
from pytorch_lightning.utilities import rank_zero_only

from .config import Config
from .engine import Task
from .runs import MetricsFile, progress_line


class CsvLogger(Logger):
    """Lightning's interface to `metrics.csv`; the hyperparameters are beside it, in `config.yaml`."""

    name = "metrics.csv"
    version = ""

    def __init__(self, file: MetricsFile) -> None:
        super().__init__()
        self.file = file

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.file.log_metrics(metrics, step or 0)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do."""


#: if "tensorboard" in loggers
class TensorBoard(TensorBoardLogger):
    """Event files in `tensorboard/`; Lightning's own logger writes hyperparameters only with a score."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.experiment.add_hparams(params, {}, run_name=".")

    def save(self) -> None:
        self.experiment.flush()  # and no hparams.yaml, which would say what config.yaml says


#: endif
class LogMetrics(pl.Callback):
    """Sends loss and learning rate every `log_every` steps, and the scores after each epoch.

    `self.log` in every step would cost more than a small step itself; here the loss stays on the device until
    it is logged.
    """

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.last_step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, task: pl.LightningModule, *args: Any) -> None:
        assert isinstance(task, Task)
        step = trainer.global_step
        if step > self.last_step and step % task.cfg.log_every == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            _log(trainer, {"train/loss": task.train_loss.compute().item(), "lr": rate})
            task.train_loss.reset()
        self.last_step = step

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        assert isinstance(task, Task)
        _log(trainer, task.scores)
        task.print(progress_line(trainer.current_epoch + 1, trainer.global_step, task.scores))


def build_loggers(cfg: Config, metrics_file: MetricsFile) -> list[Logger]:
    """Every logger of the project, with the hyperparameters."""
    loggers: list[Logger] = [
        CsvLogger(metrics_file),
        #: if "tensorboard" in loggers
        TensorBoard(cfg.out_dir, name="", version="tensorboard"),
        #: endif
    ]
    for logger in loggers:
        logger.log_hyperparams(cfg.flat())
    return loggers


def _log(trainer: pl.Trainer, metrics: Mapping[str, float]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=trainer.global_step)
