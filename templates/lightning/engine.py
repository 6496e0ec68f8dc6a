"""What one step of training and one of validation do."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from . import objective
from .config import Config
from .data import Batch
from .metrics import MeanLoss, Validation
from .model import Net
from .optim import Guard, WeightAverage, build_optimizer, build_schedule
from .parallel import distribute
from .processes import rank
from .seeding import seed_step


class Task(pl.LightningModule):
    """Image classification: the network returns logits [B, C]."""

    scores: dict[str, float]  # of the last validation, with the confusion matrix [C, C] they are made of
    confusion: Tensor

    def __init__(self, net: Net, cfg: Config, num_classes: int, total_steps: int) -> None:
        super().__init__()
        self.net, self.cfg, self.total_steps = net, cfg, total_steps
        self.train_loss = MeanLoss()  # since the last point of the curves
        self.losses: list[Tensor] = []  # of batches since the last step
        self.validation = Validation(num_classes)
        self.resumed_average: dict[str, Any] = {}

    def configure_model(self) -> None:
        distribute(self.net, self.device_mesh)

    def on_train_start(self) -> None:
        self.average.load_state_dict(self.resumed_average)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        iteration = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx + 1
        seed_step(self.cfg.seed, iteration, rank())

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

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        self.validation.update(self.net(images), labels)

    def on_validation_epoch_end(self) -> None:
        self.scores, self.confusion = self.validation.compute()
        self.log_dict(self.scores, logger=False)  # for callbacks; `LogMetrics` sends them to the loggers
        if isinstance(schedule := self.lr_schedulers(), ReduceLROnPlateau):
            schedule.step(self.scores["val/loss"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.net, self.cfg)
        self.average = WeightAverage(self.net, optimizer, self.cfg.ema_decay)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        self.guard = Guard(optimizer, self.cfg.optim.grad_clip, scaler or torch.amp.GradScaler(enabled=False))
        schedule = build_schedule(optimizer, self.cfg.optim, self.total_steps)
        interval = "epoch" if isinstance(schedule, ReduceLROnPlateau) else "step"
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": interval, "monitor": "val/loss"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["train_loss"] = self.train_loss.save()
        checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.train_loss.load(checkpoint["train_loss"])
        self.resumed_average = checkpoint["average"]  # there is nothing to load it into as yet

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Lightning would step a plateau after the checkpoint of its epoch, which would lose it on resume."""
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
    if cfg.precision == "bf16":
        return MixedPrecision("bf16-mixed", device)
    return Precision()
