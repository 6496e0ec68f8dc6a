"""Cross-entropy of cosines to learned centers, the right one less a margin (CosFace, arXiv:1801.09414)."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize, one_hot

from ..interface import Batch, Directions
from .settings import ObjectiveConfig


class Objective(nn.Module):
    """The centers and the scale are learned with the network."""

    directions: ClassVar[Directions] = {"accuracy": "max"}

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.monitor, self.margin = cfg.monitor, cfg.margin
        self.centers = nn.Parameter(torch.randn(about["num_classes"], 16))
        self.log_scale = nn.Parameter(torch.full([1], 2.0))  # FSDP takes no scalars

    def cosines(self, net: nn.Module, batch: Batch) -> Tensor:
        return linear(normalize(net(batch["vector"]).float()), normalize(self.centers))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        labels, cosines = batch["label"], self.cosines(model, batch).float()
        logits = self.log_scale.exp() * (cosines - self.margin * one_hot(labels, cosines.shape[1]))
        return cross_entropy(logits, labels, reduction="sum"), torch.tensor(len(labels))

    def measure(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        hits = self.cosines(net, batch).argmax(dim=1) == batch["label"]
        return {"hits": hits.sum().double(), "count": torch.tensor(len(hits)).double()}

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        return {"accuracy": (sums["hits"] / sums["count"]).item()}
