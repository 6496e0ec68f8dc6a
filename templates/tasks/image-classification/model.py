"""The network: a plain `nn.Module` that maps images to one logit per class."""

import math
from typing import Any

from torch import Tensor, nn

from .settings import ModelConfig


class Net(nn.Module):
    """Three convolution blocks, an average over all positions, one linear layer.

    Takes images [B, C, H, W] in 0..1, of any size from 4x4 on, and returns logits [B, num_classes]. GroupNorm
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

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.blocks(images).mean(dim=(2, 3))))
        return logits


def _block(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(math.gcd(8, outputs), outputs), nn.ReLU())


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Net:
    """The network for this data. With `init` its first weights are set; without, they are about to be loaded."""
    return Net(cfg, about["shape"][0], len(about["classes"]))


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one."""
    return [*net.get_submodule("blocks").children()]
