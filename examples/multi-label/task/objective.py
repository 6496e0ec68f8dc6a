"""What the network is trained to do, and how well it does it."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..interface import Batch, Directions
from .settings import ObjectiveConfig


class Objective(nn.Module):
    """Binary cross-entropy of each label; macro F1, and the share of images with exactly the right labels."""

    directions: ClassVar[Directions] = {"f1": "max", "exact": "max", "loss": "min"}

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.monitor = cfg.monitor

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch, in float32, and the number of samples that it covers.

        The training core divides by the count of the whole optimizer step, over all processes and accumulated
        batches, so unequal batches weigh correctly. Do not average here.
        """
        logits = model(batch["image"]).float()
        total = binary_cross_entropy_with_logits(logits, batch["label"], reduction="sum")
        return total, torch.tensor(len(logits))

    def measure(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """What `scores` needs, as float64 sums over the samples of a batch: they are added over batches and processes.

        `hits`, `predicted` and `true` [C]: how many images were rightly given each label, were given it, and have it.
        """
        logits, truth = net(batch["image"]).float(), batch["label"] > 0.5
        given = logits > 0
        sums = {"loss": binary_cross_entropy_with_logits(logits, batch["label"], reduction="sum")}
        sums |= {"hits": (given & truth).sum(0), "predicted": given.sum(0), "true": truth.sum(0)}
        sums |= {"exact": (given == truth).all(1).sum(), "samples": torch.tensor(len(logits))}
        return {name: value.double() for name, value in sums.items()}

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Mean loss, the share of exact answers, and macro F1 over the labels that are there or were predicted."""
        either = sums["predicted"] + sums["true"]
        f1 = (2 * sums["hits"][either > 0] / either[either > 0]).mean()
        means = {name: (sums[name] / sums["samples"]).item() for name in ("loss", "exact")}
        return {**means, "f1": f1.item()}
