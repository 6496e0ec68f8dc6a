"""The network: a multilayer perceptron that scales and encodes its columns itself."""

from typing import Any

import torch
from torch import Tensor, nn

from .settings import ModelConfig


class Net(nn.Module):
    """Takes rows [B, C] as `tables.encode` makes them; returns logits [B, num_classes], or numbers [B].

    Numbers are standardized, a missing one stands for the mean and is marked; each category has an embedding. LayerNorm
    normalizes each row by itself, so a batch of one and a batch split over processes train alike.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(self, cfg: ModelConfig, columns: list[dict[str, Any]], outputs: int, scale: list[float]) -> None:
        super().__init__()
        self.numbers = [i for i, column in enumerate(columns) if "values" not in column]
        self.categories = [i for i, column in enumerate(columns) if "values" in column]
        self.register_buffer("mean", torch.tensor([columns[i]["mean"] for i in self.numbers]))
        self.register_buffer("std", torch.tensor([columns[i]["std"] for i in self.numbers]))
        self.register_buffer("scale", torch.tensor(scale))  # mean and standard deviation of the target
        sizes = [len(columns[i]["values"]) + 1 for i in self.categories]
        self.embeddings = nn.ModuleList(nn.Embedding(size, cfg.embedding) for size in sizes)
        width = 2 * len(self.numbers) + cfg.embedding * len(self.categories)
        self.blocks = nn.Sequential(*(_block(cfg.width if i else width, cfg) for i in range(cfg.depth)))
        self.head = nn.Linear(cfg.width, outputs)
        self.is_number = outputs == 1

    def forward(self, rows: Tensor) -> Tensor:
        numbers, codes = rows[:, self.numbers], rows[:, self.categories].long()
        missing = numbers.isnan()
        scaled = torch.where(missing, 0.0, (numbers - self.mean) / self.std)
        parts = [scaled, missing.float(), *(embed(codes[:, i]) for i, embed in enumerate(self.embeddings))]
        answers: Tensor = self.head(self.blocks(torch.cat(parts, dim=1)))
        return answers.squeeze(1).float() * self.scale[1] + self.scale[0] if self.is_number else answers


def _block(inputs: int, cfg: ModelConfig) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, cfg.width), nn.LayerNorm(cfg.width), nn.ReLU(), nn.Dropout(cfg.dropout))


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Net:
    """The network for this data. With `init` its first weights are set; without, they are about to be loaded."""
    return Net(cfg, about["columns"], len(about.get("classes", [None])), about.get("scale", [0.0, 1.0]))


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one."""
    return [*net.get_submodule("blocks").children()]
