"""A network from a vector to an embedding."""

from typing import Any

from torch import nn

from .settings import ModelConfig


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> nn.Module:
    hidden = nn.Sequential(nn.Linear(about["size"], cfg.width), nn.GELU())
    return nn.Sequential(hidden, nn.Linear(cfg.width, 16))


def blocks(net: nn.Module) -> list[nn.Module]:
    return [net.get_submodule("0")]
