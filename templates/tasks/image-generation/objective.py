"""What the network is trained to do, and how well it does it."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import generated
from ..interface import Batch, Directions
from .settings import ObjectiveConfig


class Objective(nn.Module):
    """Flow matching (Lipman et al. 2023, arXiv:2210.02747); how far what is generated is from real images.

    Noise and times come with the batch, so the loss of a sample is the same in any batch and process.
    """

    directions: ClassVar[Directions] = {"frechet": "min", "spread": "min", "loss": "min"}

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.monitor, self.num_classes = cfg.monitor, len(about["classes"])

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch, in float32, and the number of images that it covers.

        The training core divides by the count of the whole optimizer step, over all processes and accumulated
        batches, so unequal batches weigh correctly. Do not average here.
        """
        losses = self.losses(model, batch)
        return losses.sum(), torch.tensor(len(losses))

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """How far each velocity is from the way from noise to image: the mean square over pixels, by sample [B]."""
        noise, way = batch["noise"], 2 * batch["image"] - 1 - batch["noise"]
        found = model(noise + batch["time"][:, None, None, None] * way, batch["time"], batch["label"])
        losses: Tensor = (found.float() - way).square().mean(dim=(1, 2, 3))
        return losses

    def measure(self, net: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """What `scores` needs, as float64 sums over the samples of a batch, added over batches and processes."""
        return generated.measure(net, batch, self.num_classes) | {"loss": self.losses(net, batch).sum().double()}

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """How far generated images are from real ones, see `generated.compare`; the mean loss."""
        remedy = "If that stays so, train for longer or raise model.width."
        loss = (sums["loss"] / sums["real"][0, 0]).item()
        return generated.compare(sums, self.num_classes, remedy) | {"loss": loss}
