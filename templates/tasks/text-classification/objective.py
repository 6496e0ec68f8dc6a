"""What the network is trained to do, and how well it does it."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..interface import Batch, Directions
from .settings import ObjectiveConfig


class Objective(nn.Module):
    """Cross-entropy; accuracy and macro F1."""

    directions: ClassVar[Directions] = {"accuracy": "max", "f1": "max", "loss": "min"}

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.monitor, self.label_smoothing, self.num_classes = cfg.monitor, cfg.label_smoothing, len(about["classes"])

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch, in float32, and the number of samples that it covers.

        The training core divides by the count of the whole optimizer step, over all processes and accumulated
        batches, so unequal batches weigh correctly. Do not average here.
        """
        logits = model(batch["text"]).float()
        total = cross_entropy(logits, batch["label"], reduction="sum", label_smoothing=self.label_smoothing)
        return total, torch.tensor(len(logits))

    def measure(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """What `scores` needs, as float64 sums over the samples of a batch: they are added over batches and processes.

        `loss` [], and `confusion` [C, C]: the number of samples by true class (rows) and predicted class.
        """
        logits = net(batch["text"]).float()
        cells = batch["label"] * self.num_classes + logits.argmax(dim=1)
        counts = torch.bincount(cells, minlength=self.num_classes**2).view(self.num_classes, -1)
        return {"loss": cross_entropy(logits, batch["label"], reduction="sum").double(), "confusion": counts.double()}

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Mean loss, accuracy and macro F1.

        A class that was neither present nor predicted has no F1 and is left out of the mean, as in torchmetrics'
        `MulticlassF1Score`.
        """
        counts = sums["confusion"]
        hits, total, present = counts.diag(), counts.sum(), counts.sum(0) + counts.sum(1)
        f1 = (2 * hits[present > 0] / present[present > 0]).mean()
        return {"loss": (sums["loss"] / total).item(), "accuracy": (hits.sum() / total).item(), "f1": f1.item()}
