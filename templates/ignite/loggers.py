"""Where metrics go: files, and the terminal."""

import contextlib
import sys

from ignite import distributed as idist
from ignite import handlers
from ignite.engine import Engine, Events
from tqdm import tqdm

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
from .engine import StepEvents, Task
from .progress import Progress


#: if "tensorboard" in loggers
class TensorBoard(contextlib.AbstractContextManager["TensorBoard"]):
    """Event files in `tensorboard/`."""

    def __init__(self, cfg: Config) -> None:
        from torch.utils.tensorboard import SummaryWriter  # Ignite's logger would take tensorboardX's, if there is one

        self.out_dir = cfg.out_dir
        steps = (int(row[0]) for row in runs.MetricsFile(cfg.out_dir).read())
        repeated = max(steps, default=0) + 1  # points from here on are shown once
        self.writer = SummaryWriter(cfg.out_dir / "tensorboard", purge_step=repeated)
        self.writer.add_hparams(cfg.flat(), {}, run_name=".")

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def __exit__(self, *error: object) -> None:
        for name, picture in pictures.load_pictures(self.out_dir).items():
            self.writer.add_image(name, picture, dataformats="HWC")
        self.writer.close()


#: endif
#: if "mlflow" in loggers
class MLflow(contextlib.AbstractContextManager["MLflow"]):
    """A run in `mlflow.db`, or on the server that MLFLOW_TRACKING_URI names.

    Ignite's own handler cannot go on in an earlier run, nor end one as failed; MLflow's client can.
    """

    def __init__(self, cfg: Config) -> None:
        self.out_dir = cfg.out_dir
        self.client, self.run_id = mlflow_run.open_run(cfg)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, name, value, step=step)

    def __exit__(self, failed: object, *error: object) -> None:
        for name, picture in pictures.load_pictures(self.out_dir).items():
            self.client.log_image(self.run_id, picture, f"{name}.png")
        self.client.set_terminated(self.run_id, mlflow_run.ending(failed))


#: endif
#: if "wandb" in loggers
class Wandb(contextlib.AbstractContextManager["Wandb"]):
    """A run in `wandb/`, and in your account if you have one."""

    def __init__(self, cfg: Config) -> None:
        self.out_dir = cfg.out_dir
        wandb_run.open_run(cfg)
        self.logger = handlers.WandBLogger(init=False)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logger.log({**metrics, wandb_run.STEP: step})

    def __exit__(self, failed: object, *error: object) -> None:
        for name, picture in pictures.load_pictures(self.out_dir).items():
            self.logger.log({name: [self.logger.Image(picture)]})
        self.logger.finish(exit_code=1 if failed else 0)


#: endif
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


#: if measured
def attach_meter(sinks: list[runs.Sink], trainer: Engine, task: Task) -> None:
    """Send speed and memory every `log_every` steps; the clock stands still during validations."""
    clock = meter.Meter(task.progress.steps)

    @trainer.on(Events.ITERATION_STARTED)
    def count() -> None:
        clock.samples += len(trainer.state.batch[1])  # type: ignore[index]

    @trainer.on(StepEvents.STEP_COMPLETED(every=task.cfg.log_every))
    def log_speed() -> None:
        runs.send(sinks, task.progress.steps, clock.read(task.progress.steps))

    trainer.add_event_handler(Events.EPOCH_STARTED, clock.start)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, clock.stop)


#: endif
def attach_loggers(sinks: list[runs.Sink], trainer: Engine, evaluator: Engine, task: Task) -> None:
    """Send loss and learning rate every `log_every` steps, and the scores after each epoch."""

    @trainer.on(StepEvents.STEP_COMPLETED(every=task.cfg.log_every))
    def log_training() -> None:
        rate = task.optimizer.param_groups[0]["lr"]
        runs.send(sinks, task.progress.steps, {"train/loss": task.loss.read(), "lr": rate})

    @evaluator.on(Events.COMPLETED)
    def log_scores() -> None:
        scores = {name: value for name, value in evaluator.state.metrics.items() if name.startswith("val/")}
        runs.send(sinks, task.progress.steps, scores)
        if idist.get_rank() == 0:
            tqdm.write(runs.progress_line(trainer.state.epoch, task.progress.steps, scores))

    #: if measured
    # All but the first, metrics.csv, so that the same run writes the same file again.
    attach_meter(sinks[1:], trainer, task)
    #: endif
    if idist.get_rank() == 0 and sys.stderr.isatty():
        seldom = Events.ITERATION_COMPLETED(every=task.cfg.log_every)  # drawing takes as long as a small step
        handlers.ProgressBar(persist=False).attach(trainer, event_name=seldom)
