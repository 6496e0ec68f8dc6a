"""The network: a plain `nn.Module` that maps images to one logit per class."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: PositiveInt = 32
    """channels of the first block; each later one has twice as many"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of the features that a training step leaves out"""


class Net(nn.Module):
    """Three convolution blocks, an average over all positions, one linear layer.

    Takes images [B, C, H, W] of any size from 4x4 on and returns logits [B, num_classes]. GroupNorm
    normalizes each sample by itself, so a batch of one and a batch split over processes train alike.
    """

    def __init__(self, cfg: ModelConfig, channels: int, num_classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _block(channels, cfg.width, stride=1),
            _block(cfg.width, 2 * cfg.width, stride=2),
            _block(2 * cfg.width, 4 * cfg.width, stride=2),
        )
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(4 * cfg.width, num_classes)
        self.activation_checkpointing = False  # hold only what enters a block, and compute the block twice
        self.micro_batches = 1  # hold the features of one part of a batch at a time

    def forward(self, images: Tensor) -> Tensor:
        if not self.training or self.micro_batches == 1:
            return self.compute(images)
        parts = images.chunk(self.micro_batches)
        return torch.cat([checkpoint(self.compute, part, use_reentrant=False) for part in parts])

    def compute(self, features: Tensor) -> Tensor:
        again = self.activation_checkpointing and self.training
        for block in self.blocks:
            features = checkpoint(block, features, use_reentrant=False) if again else block(features)
        logits: Tensor = self.head(self.dropout(features.mean(dim=(2, 3))))
        return logits


def _block(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(math.gcd(8, outputs), outputs), nn.ReLU())
