"""The networks: plain `nn.Module`s, one of which makes images of noise, while the other one judges images."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ..errors import UserError
from .settings import ModelConfig


class Block(nn.Module):
    """Mixes each feature over all patches, then the features of each patch (Tolstikhin et al. 2021, arXiv:2105.01601).

    What is asked for [B, W] scales and shifts the features. Nothing depends on other samples of the batch.
    """

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.told = nn.Linear(width, 2 * width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = _layers(patches, 2 * patches, bias=False)  # norms undo what all features of a patch have
        self.within = _layers(width, 2 * width)

    def forward(self, x: Tensor, asked: Tensor) -> Tensor:
        scale, shift = self.told(asked)[:, None].chunk(2, dim=2)
        mixed = self.first(x) * (1 + scale) + shift
        x = x + self.across(mixed.transpose(1, 2)).transpose(1, 2)
        within: Tensor = self.within(self.second(x))
        return x + within


def _layers(width: int, hidden: int, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width, bias))


class Mixer(nn.Module):
    """From images, or what is as large, and their classes to so many numbers of each patch: an MLP-Mixer.

    Without a bias no constant is added to the numbers in the end.
    """

    def __init__(self, cfg: ModelConfig, shape: list[int], num_classes: int, numbers: int, bias: bool) -> None:
        super().__init__()
        channels, height, width = shape
        self.patch, self.places = cfg.patch, (height // cfg.patch, width // cfg.patch)
        patches = self.places[0] * self.places[1]
        self.label = nn.Embedding(num_classes, cfg.width)
        self.enter = nn.Linear(channels * cfg.patch**2, cfg.width)
        self.place = nn.Parameter(torch.randn(patches, cfg.width) / cfg.width**0.5)
        self.blocks = nn.ModuleList(Block(patches, cfg.width) for _ in range(cfg.depth))
        self.norm, self.head = nn.LayerNorm(cfg.width, bias=bias), nn.Linear(cfg.width, numbers, bias)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """From [B, C, H, W] and classes [B] to [B, patches, numbers]."""
        asked = self.label(label)
        patches = self.enter(pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)) + self.place  # [B, P, W]
        for block in self.blocks:
            patches = block(patches, asked)
        found: Tensor = self.head(self.norm(patches))
        return found


class Generator(Mixer):
    """Makes images of noise."""

    def __init__(self, cfg: ModelConfig, shape: list[int], num_classes: int) -> None:
        super().__init__(cfg, shape, num_classes, shape[0] * cfg.patch**2, bias=True)

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        """Images [B, C, H, W] of classes [B], their pixels in -1..1, from noise as large."""
        found = super().forward(noise, label).tanh().transpose(1, 2)
        return pixel_shuffle(found.unflatten(2, self.places), self.patch)

    def sample(self, noise: Tensor, label: Tensor) -> Tensor:
        """The same in 0..1."""
        images: Tensor = self(noise, label)
        return (images.float() + 1) / 2


class Discriminator(Mixer):
    """Judges images."""

    def __init__(self, cfg: ModelConfig, shape: list[int], num_classes: int) -> None:
        super().__init__(cfg, shape, num_classes, 1, bias=False)  # a constant changes no lead of one image over another

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        """How real images [B, C, H, W] look as images of classes [B]: a number for each [B]."""
        return super().forward(images, label).mean(dim=(1, 2))


class Pair(nn.Module):
    """A generator and a discriminator, which learn from each other."""

    def __init__(self, cfg: ModelConfig, shape: list[int], num_classes: int) -> None:
        super().__init__()
        if shape[1] % cfg.patch or shape[2] % cfg.patch:
            wrong = f"images have {shape[1]}x{shape[2]} pixels. Give a divisor of both"
            raise UserError(f"model.patch={cfg.patch}: {wrong}.")
        self.generator = Generator(cfg, shape, num_classes)
        self.discriminator = Discriminator(cfg, shape, num_classes)

    def sample(self, noise: Tensor, label: Tensor) -> Tensor:
        """Images in 0..1 from noise [B, C, H, W]."""
        return self.generator.sample(noise, label)


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Pair:
    """The networks for this data. With `init` their first weights are set; without, they are about to be loaded."""
    return Pair(cfg, about["shape"], len(about["classes"]))


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one."""
    parts = (net.get_submodule(name) for name in ("generator.blocks", "discriminator.blocks"))
    return [block for part in parts for block in part.children()]
