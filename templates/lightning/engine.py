"""What one step of training and one of validation do."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from . import metrics, objective, optim, parallel, processes, runs, seeding
from .config import Config
from .data import Batch
from .model import Net


class Task(pl.LightningModule):
    """Image classification: the network returns logits [B, C]."""

    def __init__(self, net: Net, cfg: Config, best: runs.Best, total_steps: int, report: runs.Report = None) -> None:
        super().__init__()
        self.net, self.cfg, self.best, self.total_steps, self.report = net, cfg, best, total_steps, report
        self.losses: list[Tensor] = []  # of batches since the last step
        self.train_loss = metrics.MeanLoss()  # since the last point of the curves
        self.val_loss = SumMetric(nan_strategy="disable")
        self.confusion = MulticlassConfusionMatrix(len(best.images.classes), validate_args=False)
        self.scores: dict[str, float] = {}  # of the last validation

    def configure_model(self) -> None:
        parallel.distribute(self.net, self.device_mesh)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        iteration = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx + 1
        seeding.seed_step(self.cfg.seed, iteration, processes.rank())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = objective.loss(self.net(images), labels, self.cfg.optim.label_smoothing)
        self.losses.append(loss.detach())
        return loss

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        self.guard.clip(self.trainer.global_step + 1)
        for loss in self.losses:
            self.train_loss.update(loss)
        self.losses.clear()

    def on_train_batch_end(self, *args: Any) -> None:
        if self.trainer.global_step == self.cfg.max_steps:
            self.trainer.should_stop = True  # unlike Trainer(max_steps=...), this validates before it ends

    def on_validation_start(self) -> None:
        self.average.swap()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        logits = self.net(images)
        self.val_loss.update(objective.loss(logits, labels) * len(labels))
        self.confusion.update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        counts = self.confusion.compute()
        scores = {f"val/{name}": score for name, score in objective.scores(counts).items()}
        self.scores = {"val/loss": self.val_loss.compute().item() / counts.sum().item(), **scores}
        self.val_loss.reset()
        self.confusion.reset()
        self.best.offer(self.scores[objective.MONITOR], self.global_step, self.net, counts)
        self.average.swap()
        self.log_dict(self.scores, logger=False)  # for callbacks; `LogMetrics` sends them to the loggers
        if isinstance(schedule := self.lr_schedulers(), ReduceLROnPlateau):
            schedule.step(self.scores["val/loss"])

    def configure_optimizers(self) -> Any:
        optimizer = optim.build_optimizer(self.net, self.cfg)
        self.average = optim.WeightAverage(optimizer, self.cfg.ema_decay)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None) or torch.amp.GradScaler(enabled=False)
        self.guard = optim.Guard(optimizer, self.cfg.optim.grad_clip, scaler)
        schedule = optim.build_schedule(optimizer, self.cfg.optim, self.total_steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step", "reduce_on_plateau": False}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"train_loss": self.train_loss.save(), "best": self.best.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.train_loss.load(checkpoint["train_loss"])
        self.best.load_state_dict(checkpoint["best"])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """A plateau is stepped by the validation: Lightning would do it after the checkpoint of its epoch."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()


def build_precision(cfg: Config) -> Precision:
    """What a step computes in.

    `Trainer(precision="16-mixed")` would compute in bfloat16 on a CPU and not say so; this plugin, with a
    gradient scaler for the device, does not.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if cfg.precision == "fp16":
        return MixedPrecision("16-mixed", device, torch.amp.GradScaler(device))
    return MixedPrecision("bf16-mixed", device) if cfg.precision == "bf16" else Precision()
