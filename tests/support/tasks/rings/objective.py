"""The two losses of a GAN, and how many generated points are near a mode."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..interface import Batch, Directions
from .settings import ObjectiveConfig


class Objective(nn.Module):
    """The non-saturating loss (Goodfellow et al. 2014, arXiv:1406.2661)."""

    directions: ClassVar[Directions] = {"near": "max"}
    phases = ("discriminator", "generator")  # of a step, in this order

    modes: Tensor

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.monitor, self.reach = cfg.monitor, 4 * about["spread"]
        self.register_buffer("modes", torch.tensor(about["modes"]))

    def groups(self, net: Any, phase: str) -> list[nn.Parameter]:
        """The weights that a phase moves."""
        return list(getattr(net, phase).parameters())

    def loss(self, model: Any, batch: Batch, phase: str) -> tuple[Tensor, Tensor]:
        """The sum over points, and their number."""
        real = batch["point"]
        made = model.generator(torch.randn(len(real), model.noise, device=real.device))
        if phase == "generator":
            total = softplus(-model.discriminator(made).float()).sum()
        else:
            both = model.discriminator(torch.cat([real, made.detach()])).float()
            total = softplus(-both[: len(real)]).sum() + softplus(both[len(real) :]).sum()
        return total, torch.tensor(len(real))

    def measure(self, net: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """`near`: generated points within reach of a mode, and `count`."""
        noise = torch.randn(len(batch["point"]), net.noise, generator=generator)
        distance = torch.cdist(net.generator(noise).float(), self.modes).min(dim=1).values
        return {
            "near": (distance < self.reach).sum().double(),
            "count": torch.tensor(float(len(noise))).double(),
        }

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        return {"near": (sums["near"] / sums["count"]).item()}
