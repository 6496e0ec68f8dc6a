"""Where metrics go: files, and the terminal."""

import sys
from collections.abc import Mapping
from typing import Protocol

from ignite import distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import (
    ProgressBar,
    #: if "tensorboard" in loggers
    TensorboardLogger,
    #: endif
)
from tqdm import tqdm

from .config import Config
from .engine import StepEvents, Training, num_steps
from .runs import MetricsFile, progress_line


class Logger(Protocol):
    """What every destination of metrics can do; only the first process has any."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


#: if "tensorboard" in loggers
class TensorBoardLogger:
    """Event files in `tensorboard/`."""

    def __init__(self, cfg: Config) -> None:
        self.logger = TensorboardLogger(log_dir=cfg.out_dir / "tensorboard")
        self.logger.writer.add_hparams(cfg.flat(), {}, run_name=".")

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.logger.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.logger.close()


#: endif
def build_loggers(cfg: Config, metrics_file: MetricsFile) -> list[Logger]:
    """Every logger of the project, in the first process only."""
    if idist.get_rank() > 0:
        return []
    return [
        metrics_file,
        #: if "tensorboard" in loggers
        TensorBoardLogger(cfg),
        #: endif
    ]


def attach_loggers(
    loggers: list[Logger], trainer: Engine, evaluator: Engine, training: Training, cfg: Config
) -> None:
    """Send loss and learning rate every `log_every` steps, and the scores after each epoch."""

    def log(metrics: Mapping[str, float]) -> None:
        for logger in loggers:
            logger.log_metrics(metrics, num_steps(trainer))

    @trainer.on(StepEvents.STEP_COMPLETED(every=cfg.log_every))
    def log_training() -> None:
        loss = float(training.loss.compute())  # the only value that is read from the device while training
        training.loss.reset()
        log({"train/loss": loss, "lr": training.optimizer.param_groups[0]["lr"]})

    @evaluator.on(Events.COMPLETED)
    def log_scores() -> None:
        scores = {name: value for name, value in evaluator.state.metrics.items() if name.startswith("val/")}
        log(scores)
        if idist.get_rank() == 0:
            tqdm.write(progress_line(trainer.state.epoch, num_steps(trainer), scores))

    if idist.get_rank() == 0 and sys.stderr.isatty():
        ProgressBar(persist=False).attach(trainer)
