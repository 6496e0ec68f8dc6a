"""What is measured while training, and how the counts of all processes come together."""

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from . import objective


def mean_loss() -> MeanMetric:
    """A mean that stays on the device until it is asked for; the usual check for NaN would wait for it."""
    mean = MeanMetric(nan_strategy="disable")
    mean.set_dtype(torch.float64)  # of its sum; in float32 the last digits of a curve would be rounding
    return mean


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
