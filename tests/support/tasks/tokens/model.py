"""A network that guesses the next token from the last few (Bengio et al. 2003)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .settings import ModelConfig


class Net(nn.Module):
    """From `tokens` [B, T] to logits [B, T, V] of each next token."""

    def __init__(self, cfg: ModelConfig, num_tokens: int) -> None:
        super().__init__()
        self.context = cfg.context
        self.embed = nn.Embedding(num_tokens, cfg.width)
        self.body = nn.Sequential(nn.Linear(cfg.context * cfg.width, 2 * cfg.width), nn.GELU())
        self.head = nn.Linear(2 * cfg.width, num_tokens)

    def features(self, tokens: Tensor) -> Tensor:
        """[B, T, F] that the head makes logits of."""
        vectors = self.embed(tokens)
        before = [pad(vectors, (0, 0, n, 0))[:, : tokens.shape[1]] for n in range(self.context)]
        return self.body(torch.cat(before, dim=2))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.features(tokens))


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Net:
    return Net(cfg, about["num_tokens"])


def blocks(net: nn.Module) -> list[nn.Module]:
    return [net.get_submodule("body")]
