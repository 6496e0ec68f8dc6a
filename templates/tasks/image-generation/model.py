"""The network: a plain `nn.Module` that turns noise into images, step by step."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ..errors import UserError
from .settings import ModelConfig

WAVES = 16  # a time is told by sines and cosines of so many frequencies


class Block(nn.Module):
    """Mixes each feature over all patches, then the features of each patch (Tolstikhin et al. 2021, arXiv:2105.01601).

    What is asked for [B, W] scales and shifts the features. Nothing depends on other samples of the batch.
    """

    def __init__(self, patches: int, width: int, dropout: float) -> None:
        super().__init__()
        self.told = nn.Linear(width, 2 * width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = _layers(patches, 2 * patches, dropout)
        self.within = _layers(width, 2 * width, dropout)

    def forward(self, x: Tensor, asked: Tensor) -> Tensor:
        scale, shift = self.told(asked)[:, None].chunk(2, dim=2)
        mixed = self.first(x) * (1 + scale) + shift
        x = x + self.across(mixed.transpose(1, 2)).transpose(1, 2)
        within: Tensor = self.within(self.second(x))
        return x + within


def _layers(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))


class Flow(nn.Module):
    """Tells where what is on its way from noise (time 0) to an image (time 1) has to go: an MLP-Mixer on patches."""

    def __init__(self, cfg: ModelConfig, shape: list[int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        if height % cfg.patch or width % cfg.patch:
            raise UserError(f"model.patch={cfg.patch}: images have {height}x{width} pixels. Give a divisor of both.")
        self.steps, self.patch, self.places = cfg.steps, cfg.patch, (height // cfg.patch, width // cfg.patch)
        patches, numbers = self.places[0] * self.places[1], channels * cfg.patch**2
        self.time = nn.Sequential(nn.Linear(2 * WAVES, cfg.width), nn.SiLU(), nn.Linear(cfg.width, cfg.width))
        self.label = nn.Embedding(num_classes, cfg.width)
        self.enter = nn.Linear(numbers, cfg.width)
        self.place = nn.Parameter(torch.randn(patches, cfg.width) / cfg.width**0.5)
        self.blocks = nn.ModuleList(Block(patches, cfg.width, cfg.dropout) for _ in range(cfg.depth))
        self.norm, self.head = nn.LayerNorm(cfg.width), nn.Linear(cfg.width, numbers)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Velocities at places `x` [B, C, H, W], where pixels are in -1..1, and times [B] in 0..1, for classes [B]."""
        angles = time[:, None] * torch.arange(1, WAVES + 1, device=x.device) * (torch.pi / 2)
        asked = self.label(label) + self.time(torch.cat((angles.sin(), angles.cos()), dim=1))
        patches = self.enter(pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)) + self.place  # [B, P, W]
        for block in self.blocks:
            patches = block(patches, asked)
        found = self.head(self.norm(patches)).transpose(1, 2)
        return pixel_shuffle(found.unflatten(2, self.places), self.patch)

    def sample(self, noise: Tensor, label: Tensor) -> Tensor:
        """Images in 0..1 from noise [B, C, H, W]: Heun's method, in steps of equal length."""
        x, length = noise, 1 / self.steps
        for step in range(self.steps):
            begin = torch.full_like(label, step, dtype=torch.float32) * length
            first = self(x, begin, label).float()
            second = self(x + length * first, begin + length, label).float()
            x = x + length * (first + second) / 2
        return ((x + 1) / 2).clamp(0, 1)


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Flow:
    """The network for this data. With `init` its first weights are set; without, they are about to be loaded."""
    return Flow(cfg, about["shape"], len(about["classes"]))


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one."""
    return [*net.get_submodule("blocks").children()]
