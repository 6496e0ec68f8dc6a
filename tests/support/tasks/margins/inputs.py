"""What is exported gives embeddings, which need no centers."""

from typing import Any

import numpy as np
from torch import Tensor, nn

INPUTS, OUTPUTS = ("vector",), ("embedding",)
DYNAMIC = {"vector": {0: "batch"}, "embedding": {0: "batch"}}
TOLERANCE = 1e-5
Arrays = dict[str, np.ndarray]


class Exported(nn.Module):
    """From vectors [B, 64] to embeddings [B, 16]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, vector: Tensor) -> Tensor:
        return self.net(vector)


def example(about: dict[str, Any], size: int = 2) -> Arrays:
    return {"vector": np.linspace(0, 1, size * about["size"], dtype=np.float32).reshape(size, -1)}


def differ(expected: Arrays, answers: Arrays) -> np.ndarray:
    return np.abs(expected["embedding"] - answers["embedding"]).max(axis=1)


def from_batch(batch: dict[str, Tensor]) -> Arrays:
    return {"vector": batch["vector"].numpy()}
