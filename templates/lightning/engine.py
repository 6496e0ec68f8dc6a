"""What one step of training and one of validation do."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from . import metrics, objective, optim, parallel, processes, runs, seeding
from .config import Config
from .data import Batch
from .model import Net
from .progress import Progress


class Task(pl.LightningModule):
    """Image classification: the network returns logits [B, C]."""

    def __init__(self, net: Net, cfg: Config, best: runs.Best, progress: Progress, report: runs.Report = None) -> None:
        super().__init__()
        self.net, self.cfg, self.best, self.progress, self.report = net, cfg, best, progress, report
        self.losses: list[Tensor] = []  # of batches since the last step
        self.train_loss = metrics.MeanLoss()  # since the last point of the curves
        self.val_loss = SumMetric(nan_strategy="disable")
        self.confusion = MulticlassConfusionMatrix(len(best.images.classes), validate_args=False)
        self.scores: dict[str, float] = {}  # of the last validation

    def configure_model(self) -> None:
        parallel.distribute(self.net, self.device_mesh)

    def on_train_start(self) -> None:
        """Let Lightning count on from where the run is."""
        loop = self.trainer.fit_loop
        vars(loop.epoch_progress.current).update(processed=self.progress.epoch, completed=self.progress.epoch)
        loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = self.progress.steps
        loop.epoch_loop._batches_that_stepped = self.progress.steps

    def on_train_epoch_start(self) -> None:
        """Let an epoch that a run resumes in end, with a validation, when its batches do."""
        self.trainer.fit_loop.max_batches = self.trainer.val_check_batch = self.progress.batches_left

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        seeding.seed_step(self.cfg.seed, self.progress.batches + len(self.losses) + 1, processes.rank())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = objective.loss(self.net(images), labels, self.cfg.optim.label_smoothing)
        self.losses.append(loss.detach())
        return loss

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        self.guard.clip(self.progress.steps + 1)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        for loss in self.losses:
            self.train_loss.update(loss)
        self.progress.advance(len(self.losses))
        self.losses.clear()
        optim.set_rate(self.trainer.optimizers[0], self.progress)
        # Unlike Trainer(max_steps=...), this validates before it ends.
        self.trainer.should_stop |= self.progress.steps == self.cfg.max_steps

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
        self.progress.judge(self.scores["val/loss"])
        optim.set_rate(self.trainer.optimizers[0], self.progress)

    def configure_optimizers(self) -> Optimizer:
        optimizer = optim.build_optimizer(self.net, self.progress)
        self.average = optim.WeightAverage(optimizer, self.cfg.ema_decay)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None) or torch.amp.GradScaler(enabled=False)
        self.guard = optim.Guard(optimizer, self.cfg.optim.grad_clip, scaler)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = {"best": self.best.state_dict(), "progress": self.progress.state_dict()}
        checkpoint |= own | {"train_loss": self.train_loss.save()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.train_loss.load(checkpoint["train_loss"])
        self.best.load_state_dict(checkpoint["best"])
        del checkpoint["loops"]  # Lightning's counters, which go on with unchanged settings only


def build_precision(cfg: Config) -> Precision:
    """What a step computes in.

    `Trainer(precision="16-mixed")` would compute in bfloat16 on a CPU and not say so; this plugin, with a
    gradient scaler for the device, does not.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if cfg.precision == "fp16":
        return MixedPrecision("16-mixed", device, torch.amp.GradScaler(device))
    return MixedPrecision("bf16-mixed", device) if cfg.precision == "bf16" else Precision()
