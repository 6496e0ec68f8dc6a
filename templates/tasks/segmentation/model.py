"""The network: a plain `nn.Module` that maps images to one logit per class and pixel."""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from .settings import ModelConfig


class UNet(nn.Module):
    """A U-Net: each halving of the size is undone by a block that also sees what was there before it.

    Takes images [B, C, H, W] in 0..1, of any size, and returns logits [B, num_classes, H, W]. GroupNorm normalizes
    each sample by itself, so a batch of one and a batch split over processes train alike. Its `eps` is large: of a
    clear sky, a channel can be as good as constant, and what would be normalized there is rounding.
    """

    def __init__(self, cfg: ModelConfig, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = [cfg.width * 2**level for level in range(cfg.depth + 1)]
        downwards = [_block(inputs, outputs, stride=2) for inputs, outputs in pairwise(widths)]
        upwards = [_block(above + width, width, stride=1) for width, above in pairwise(widths)]
        self.down = nn.ModuleList([_block(channels, cfg.width, stride=1), *downwards])
        self.up = nn.ModuleList(reversed(upwards))
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Conv2d(cfg.width, num_classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        seen = [images]
        for block in self.down:
            seen.append(block(seen[-1]))
        x = seen.pop()
        for block in self.up:
            before = seen.pop()
            height, width = before.shape[-2:]  # where that is odd, half of it was rounded up
            x = block(torch.cat((interpolate(x, scale_factor=2.0)[..., :height, :width], before), dim=1))
        logits: Tensor = self.head(self.dropout(x))
        return logits


def _block(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(*_layers(inputs, outputs, stride), *_layers(outputs, outputs, 1))


def _layers(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return convolution, nn.GroupNorm(math.gcd(8, outputs), outputs, eps=1e-2), nn.ReLU()


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> UNet:
    """The network for this data. With `init` its first weights are set; without, they are about to be loaded."""
    return UNet(cfg, about["shape"][0], len(about["classes"]))


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one."""
    return [*net.get_submodule("down").children(), *net.get_submodule("up").children()]
