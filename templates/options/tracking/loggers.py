"""Where metrics go, besides the terminal."""

import contextlib

from ..config import Config
from ..runs.metrics import MetricsFile, Sink
from ..runs.progress import Progress
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
    #: if "wandb" in loggers
    wandb_run,
    #: endif
)


#: if "tensorboard" in loggers
class TensorBoard(contextlib.AbstractContextManager["TensorBoard"]):
    """Event files in `tensorboard/`."""

    def __init__(self, cfg: Config) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self.folder = cfg.folder
        steps = (int(row[0]) for row in MetricsFile(cfg.folder).read())
        repeated = max(steps, default=0) + 1  # the resumed run writes these steps again
        self.writer = SummaryWriter(cfg.folder / "tensorboard", purge_step=repeated)
        settings = {name: str(value) if isinstance(value, list) else value for name, value in cfg.flat().items()}
        self.writer.add_hparams(settings, {}, run_name=".")  # which takes no lists

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def __exit__(self, *error: object) -> None:
        for name, picture in pictures.load_pictures(self.folder).items():
            self.writer.add_image(name, picture, dataformats="HWC")
        self.writer.close()


#: endif
#: if "mlflow" in loggers
class MLflow(contextlib.AbstractContextManager["MLflow"]):
    """A run in `mlflow.db`, or on the server that MLFLOW_TRACKING_URI names.

    The frameworks' own loggers cannot continue an earlier run, nor end one as failed; MLflow's client can.
    """

    def __init__(self, cfg: Config) -> None:
        self.folder = cfg.folder
        self.client, self.run_id = mlflow_run.open_run(cfg)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, name, value, step=step)

    def __exit__(self, failed: object, *error: object) -> None:
        for name, picture in pictures.load_pictures(self.folder).items():
            self.client.log_image(self.run_id, picture, f"{name}.png")
        self.client.set_terminated(self.run_id, mlflow_run.ending(failed))


#: endif
#: if "wandb" in loggers
class Wandb(contextlib.AbstractContextManager["Wandb"]):
    """A run in `wandb/`, and in your account if you have one."""

    def __init__(self, cfg: Config) -> None:
        self.folder, self.run = cfg.folder, wandb_run.open_run(cfg)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.run.log({**metrics, wandb_run.STEP: step})

    def __exit__(self, failed: object, *error: object) -> None:
        for name, picture in pictures.load_pictures(self.folder).items():
            self.run.log({name: [wandb_run.image(picture)]})
        self.run.finish(exit_code=1 if failed else 0)


#: endif
def open_sinks(cfg: Config, progress: Progress, stack: contextlib.ExitStack, logged: bool) -> list[Sink]:
    """metrics.csv, and all loggers if the run is `logged`; `stack` closes them. For the first process."""
    sinks: list[Sink] = [MetricsFile(cfg.folder, progress)]
    if not logged:
        return sinks
    #: if monitoring == "prometheus"
    sinks.append(stack.enter_context(prometheus.Prometheus(cfg.folder, progress)))
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
    #: if measured
    # Not to metrics.csv, so that the same run always writes the same file.
    sinks.append(meter.Meter(sinks[1:], progress))
    #: endif
    return sinks
