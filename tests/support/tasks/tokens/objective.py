"""Cross-entropy of the next token, summed over tokens; perplexity."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..interface import Batch, Directions
from .settings import ObjectiveConfig


class Objective(nn.Module):
    """What the network is trained to do, and how well it does it."""

    directions: ClassVar[Directions] = {"perplexity": "min", "accuracy": "max"}

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.monitor, self.padding = cfg.monitor, about["padding"]

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum over tokens, and their number. Logits are made for tokens only, not for padding."""
        tokens = batch["tokens"]
        known = tokens[:, 1:] != self.padding
        logits = model.head(
            model.features(tokens[:, :-1])[known]
        )  # parts of the network, without its forward
        return cross_entropy(logits.float(), tokens[:, 1:][known], reduction="sum"), known.sum()

    def measure(self, net: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Sums over tokens."""
        total, count = self.loss(net, batch)
        known = batch["tokens"][:, 1:] != self.padding
        hits = (net(batch["tokens"][:, :-1]).argmax(dim=2) == batch["tokens"][:, 1:])[known].sum()
        return {"loss": total.double(), "hits": hits.double(), "count": count.double()}

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        mean = sums["loss"] / sums["count"]
        return {"perplexity": mean.exp().item(), "accuracy": (sums["hits"] / sums["count"]).item()}
