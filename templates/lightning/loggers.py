"""Where metrics go: files, and the terminal."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from . import (
    #: if measured
    meter,
    #: endif
    #: if "mlflow" in loggers
    mlflow_run,
    #: endif
    #: if loggers
    pictures,
    #: endif
    #: if monitoring == "prometheus"
    prometheus,
    #: endif
    runs,
    #: if "wandb" in loggers
    wandb_run,
    #: endif
)
from .config import Config
from .processes import rank


class SinkLogger(Logger):
    """Lightning's interface to a sink of ours, such as `metrics.csv`, which has `config.yaml` beside it."""

    name = version = ""

    def __init__(self, sink: runs.Sink) -> None:
        super().__init__()
        self.sink = sink

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.sink.log_metrics(metrics, step or 0)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do."""


#: if loggers
class RunLogger(Logger, contextlib.AbstractContextManager["RunLogger"]):
    """A logger that is open for as long as the run, which draws its pictures when `fit` has ended."""

    def finalize(self, status: str = "success") -> None:
        """`fit` calls this at its end."""

    def __exit__(self, failed: object, *error: object) -> None:
        super().finalize("failed" if failed else "success")


#: endif
#: if "tensorboard" in loggers
class TensorBoard(RunLogger, pl.loggers.TensorBoardLogger):
    """Event files in `tensorboard/`; Lightning's own logger writes hyperparameters only with a score."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg.out_dir, name="", version="tensorboard")
        self.out_dir = cfg.out_dir
        self.experiment.add_hparams(cfg.flat(), {}, run_name=".")

    def save(self) -> None:
        self.experiment.flush()  # and no hparams.yaml, which would say what config.yaml says

    def __exit__(self, *error: object) -> None:
        for name, picture in pictures.load_pictures(self.out_dir).items():
            self.experiment.add_image(name, picture, dataformats="HWC")
        super().__exit__(*error)


#: endif
#: if "mlflow" in loggers
class MLflow(RunLogger, pl.loggers.MLFlowLogger):
    """A run in `mlflow.db`, or on the server that MLFLOW_TRACKING_URI names."""

    def __init__(self, cfg: Config) -> None:
        client, run_id = mlflow_run.open_run(cfg)
        super().__init__(tracking_uri=client.tracking_uri, run_id=run_id)
        self.out_dir = cfg.out_dir

    def __exit__(self, failed: object, *error: object) -> None:
        for name, picture in pictures.load_pictures(self.out_dir).items():
            self.experiment.log_image(self.run_id, picture, f"{name}.png")
        self.experiment.set_terminated(self.run_id, mlflow_run.ending(failed))


#: endif
#: if "wandb" in loggers
class Wandb(RunLogger, pl.loggers.WandbLogger):
    """A run in `wandb/`, and in your account if you have one."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(experiment=wandb_run.open_run(cfg))
        self.out_dir = cfg.out_dir

    def __exit__(self, failed: object, *error: object) -> None:
        for name, picture in pictures.load_pictures(self.out_dir).items():
            self.log_image(name, [picture])
        self.experiment.finish(exit_code=1 if failed else 0)


#: endif
class LogMetrics(pl.Callback):
    """Sends loss and learning rate every `log_every` steps, and the scores after each epoch.

    `self.log` in every step would cost more than a small step itself; here the loss stays on the device until
    it is logged.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, *args: Any) -> None:
        if task.stepped and trainer.global_step % task.cfg.log_every == 0:
            loss = task.train_loss.compute().item()  # read from the device here only, and not in each step
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            _log(trainer.loggers, {"train/loss": loss, "lr": rate}, trainer.global_step)
            task.train_loss.reset()

    def on_validation_end(self, trainer: pl.Trainer, task: Any) -> None:
        _log(trainer.loggers, task.scores, trainer.global_step)
        task.print(runs.progress_line(trainer.current_epoch + 1, trainer.global_step, task.scores))


#: if measured
class LogSpeed(pl.Callback):
    """Sends how fast training is and what memory it takes every `log_every` steps.

    It goes to all loggers but the first, `metrics.csv`, so that the same run writes the same file again.
    """

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.meter = meter.Meter(trainer.global_step)

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.meter.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, *args: Any
    ) -> None:
        self.meter.samples += len(batch[1])
        step = trainer.global_step
        if task.stepped and step % task.cfg.log_every == 0:
            _log(trainer.loggers[1:], self.meter.read(step), step)

    def on_validation_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.meter.stop()


#: endif
def build_log_callbacks() -> list[pl.Callback]:
    """What sends metrics to the loggers of a trainer."""
    return [
        LogMetrics(),
        #: if measured
        LogSpeed(),
        #: endif
    ]


def open_loggers(cfg: Config, metrics_file: runs.MetricsFile, stack: contextlib.ExitStack) -> list[Logger]:
    """All loggers, with the hyperparameters, in the first process only; `stack` closes them."""
    if rank() > 0:
        return []
    return [
        SinkLogger(metrics_file),
        #: if monitoring == "prometheus"
        SinkLogger(stack.enter_context(prometheus.Prometheus(cfg.out_dir, metrics_file.steps_per_epoch))),
        #: endif
        #: if "tensorboard" in loggers
        stack.enter_context(TensorBoard(cfg)),
        #: endif
        #: if "mlflow" in loggers
        stack.enter_context(MLflow(cfg)),
        #: endif
        #: if "wandb" in loggers
        stack.enter_context(Wandb(cfg)),
        #: endif
    ]


def _log(loggers: Iterable[Logger], metrics: Mapping[str, float], step: int) -> None:
    for logger in loggers:
        logger.log_metrics(dict(metrics), step=step)
