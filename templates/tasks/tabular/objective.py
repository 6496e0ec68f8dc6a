"""What the network is trained to do, and how well it does it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..interface import Batch, Directions
from .settings import ObjectiveConfig

BINS = 32  # of targets and of predictions, in the picture of a regression


class Objective(nn.Module):
    """Cross-entropy, accuracy and macro F1 of classes; squared error, R2 and RMSE of numbers."""

    directions: Directions

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.num_classes = len(about.get("classes", ()))
        self.scale: list[float] = about.get("scale", [0.0, 1.0])
        self.range: list[float] = about.get("range", [0.0, 1.0])
        if self.num_classes:
            self.directions = {"accuracy": "max", "f1": "max", "loss": "min"}
        else:
            self.directions = {"r2": "max", "rmse": "min", "loss": "min"}
        self.monitor = cfg.monitor or next(iter(self.directions))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch, in float32, and the number of rows that it covers.

        The training core divides by the count of the whole optimizer step, over all processes and accumulated
        batches, so unequal batches weigh correctly. Do not average here.
        """
        return self._loss(model(batch["row"]).float(), batch["target"]), torch.tensor(len(batch["target"]))

    def _loss(self, answers: Tensor, targets: Tensor) -> Tensor:
        if self.num_classes:
            return cross_entropy(answers, targets, reduction="sum")
        errors = (answers - targets) / self.scale[1]  # in standard deviations of the target
        return errors.square().sum()

    def measure(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """What `scores` needs, as float64 sums over the rows of a batch: they are added over batches and processes.

        `counts` [C, C] by true class or bin (rows) and predicted one; of numbers also sums of errors and targets.
        """
        answers, targets = net(batch["row"]).float(), batch["target"]
        sums = {"loss": self._loss(answers, targets).double()}
        if self.num_classes:
            return sums | {"counts": self._count(targets, answers.argmax(dim=1), self.num_classes)}
        wide, errors = targets.double(), (answers.double() - targets.double()).square().sum()
        sums |= {"error": errors, "target": wide.sum(), "square": wide.square().sum()}
        return sums | {"counts": self._count(self._bin(targets), self._bin(answers), BINS)}

    def _bin(self, values: Tensor) -> Tensor:
        low, high = self.range
        places = (values - low) / ((high - low) or 1.0) * BINS
        return places.nan_to_num().clamp(0, BINS - 1).long()

    def _count(self, true: Tensor, predicted: Tensor, size: int) -> Tensor:
        return torch.bincount(true * size + predicted, minlength=size**2).view(size, size).double()

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Mean loss, and accuracy and macro F1, or R2 and RMSE in the target's unit."""
        counts = sums["counts"]
        total = counts.sum()
        values = {"loss": sums["loss"] / total}
        if self.num_classes:  # a class that was neither present nor predicted has no F1
            hits, present = counts.diag(), counts.sum(0) + counts.sum(1)
            values |= {"accuracy": hits.sum() / total, "f1": (2 * hits[present > 0] / present[present > 0]).mean()}
        else:
            spread = sums["square"] - sums["target"].square() / total
            values |= {"r2": 1 - sums["error"] / spread, "rmse": (sums["error"] / total).sqrt()}
        return {name: value.item() for name, value in values.items()}
