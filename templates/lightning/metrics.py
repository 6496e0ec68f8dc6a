"""What is measured while training, and how the counts of all processes come together."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from . import objective
from .processes import rank


class MeanLoss(MeanMetric):
    """A mean that stays on the device until it is asked for; the usual check for NaN would wait for it."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")
        self.set_dtype(torch.float64)  # of its sum; in float32 the last digits of a curve would be rounding

    def save(self) -> dict[str, float]:
        """The state of all processes together."""
        with self.sync_context():
            return {"total": self.mean_value.item(), "weight": self.weight.item()}

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from a state; the first process has it for all."""
        if rank() == 0:
            self.mean_value.fill_(state["total"])
            self.weight.fill_(state["weight"])


class Validation(nn.Module):
    """Loss and confusion matrix over a validation split."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.loss = SumMetric(nan_strategy="disable")
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        self.loss.update(objective.loss(logits, labels) * len(labels))
        self.confusion.update(logits, labels)

    def compute(self) -> tuple[dict[str, float], Tensor]:
        """The scores of all processes together, and the counts [C, C] that they are made of; starts anew."""
        confusion = self.confusion.compute()
        loss = self.loss.compute().item() / confusion.sum().item()
        self.loss.reset()
        self.confusion.reset()
        return {"val/loss": loss} | {f"val/{k}": v for k, v in objective.scores(confusion).items()}, confusion
