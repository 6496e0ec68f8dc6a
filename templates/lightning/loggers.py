"""Where metrics go: files, and the terminal."""

import contextlib
from typing import Any

import pytorch_lightning as pl

from . import (
    #: if measured
    meter,
    #: endif
    #: if "mlflow" in loggers
    mlflow_run,
    #: endif
    objective,
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
from .progress import Progress


#: if loggers
class RunLogger(pl.loggers.Logger, contextlib.AbstractContextManager["RunLogger"]):
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
        steps = (int(row[0]) for row in runs.MetricsFile(cfg.out_dir).read())
        repeated = max(steps, default=0) + 1  # points from here on are shown once
        super().__init__(cfg.out_dir, name="", version="tensorboard", purge_step=repeated)
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
    """Sends loss and learning rate to `loggers` every `log_every` steps, and the scores after each epoch.

    `self.log` in every step would cost more than a small step itself; here the loss stays on the device until it is
    logged. The score goes to the task's `report` too.
    """

    def __init__(self, loggers: list[runs.Sink]) -> None:
        self.loggers = loggers

    #: if measured
    def on_train_start(self, trainer: pl.Trainer, task: Any) -> None:
        self.meter = meter.Meter(task.progress.steps)

    def on_train_epoch_start(self, trainer: pl.Trainer, task: Any) -> None:
        self.meter.start()

    def on_validation_start(self, trainer: pl.Trainer, task: Any) -> None:
        self.meter.stop()

    #: endif
    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, *args: Any) -> None:
        #: if measured
        self.meter.samples += len(batch[1])
        #: endif
        step = trainer.global_step
        if not task.losses and step % task.cfg.log_every == 0:
            loss = task.train_loss.compute().item()  # read from the device here only, and not in each step
            task.train_loss.reset()
            #: if measured
            # All but the first, metrics.csv, so that the same run writes the same file again.
            runs.send(self.loggers[1:], step, self.meter.read(step))
            #: endif
            runs.send(self.loggers, step, {"train/loss": loss, "lr": trainer.optimizers[0].param_groups[0]["lr"]})

    def on_validation_end(self, trainer: pl.Trainer, task: Any) -> None:
        runs.send(self.loggers, trainer.global_step, task.scores)
        task.print(runs.progress_line(trainer.current_epoch + 1, trainer.global_step, task.scores))
        if task.report:
            task.report(trainer.current_epoch + 1, task.scores[objective.MONITOR])


def open_loggers(cfg: Config, progress: Progress, stack: contextlib.ExitStack) -> list[runs.Sink]:
    """All loggers, with the hyperparameters, for the first process; `stack` closes them."""
    sinks: list[runs.Sink] = [runs.MetricsFile(cfg.out_dir, progress)]
    #: if monitoring == "prometheus"
    sinks.append(stack.enter_context(prometheus.Prometheus(cfg.out_dir, progress)))
    #: endif
    #: if "tensorboard" in loggers
    sinks.append(stack.enter_context(TensorBoard(cfg)))
    #: endif
    #: if "mlflow" in loggers
    sinks.append(stack.enter_context(MLflow(cfg)))
    #: endif
    #: if "wandb" in loggers
    sinks.append(stack.enter_context(Wandb(cfg)))
    #: endif
    return sinks
