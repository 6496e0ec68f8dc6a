"""What the network is trained to do, and how well it does it."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..interface import Batch, Directions
from .data import PADDING
from .settings import ObjectiveConfig


class Objective(nn.Module):
    """Cross-entropy of the next token; bits per byte, which do not depend on the tokenizer, and perplexity."""

    directions: ClassVar[Directions] = {"bits_per_byte": "min", "perplexity": "min", "loss": "min"}

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.monitor = cfg.monitor

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch, in float32, and the number of tokens that it covers.

        The training core divides by the count of the whole optimizer step, over all processes and accumulated
        batches, so unequal batches weigh correctly. Do not average here.
        """
        return self._losses(model, batch).sum(), (batch["targets"] != PADDING).sum()

    def _losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Of each token [B, T], in nats; 0 for padding."""
        logits, targets = model(batch["tokens"]).float(), batch["targets"]
        losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING, reduction="none")
        return losses.view_as(targets)

    def measure(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """What `scores` needs, as float64 sums over the samples of a batch: they are added over batches and processes.

        `nll` (in nats) and `tokens` [T] by position in the window, and all `bytes`.
        """
        nll, known = self._losses(net, batch).double(), batch["targets"] != PADDING
        return {"nll": nll.sum(0), "tokens": known.double().sum(0), "bytes": batch["bytes"].double().sum()}

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Bits per byte of text; perplexity and mean loss per token."""
        nll, tokens, size = (float(sums[name].sum()) for name in ("nll", "tokens", "bytes"))
        loss = nll / tokens
        bits = nll / math.log(2) / size if size else math.nan
        return {"bits_per_byte": bits, "perplexity": math.exp(min(loss, 700.0)), "loss": loss}
