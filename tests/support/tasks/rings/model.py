"""A generator and a discriminator."""

from typing import Any

from torch import nn

from .settings import ModelConfig


class Net(nn.Module):
    """`generator`: noise [B, Z] to points [B, 2]; `discriminator`: points to logits [B, 1]."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.noise = cfg.noise
        self.generator = _layers(cfg.noise, cfg.width, 2)
        self.discriminator = _layers(2, cfg.width, 1)


def _layers(inputs: int, width: int, outputs: int) -> nn.Sequential:
    hidden = nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Net:
    return Net(cfg)


def blocks(net: nn.Module) -> list[nn.Module]:
    return []
