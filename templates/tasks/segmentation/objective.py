"""What the network is trained to do, and how well it does it."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .. import images, masks
from ..interface import Batch, Directions
from .settings import ObjectiveConfig

SHOWN, LONGEST = 4, 64  # samples in the picture of a run, and the longest side of each there


class Objective(nn.Module):
    """Cross-entropy and Dice of each image; mean IoU, mean Dice and the share of right pixels, over all pixels.

    Pixels that belong to no class (`masks.IGNORED`) count nowhere.
    """

    directions: ClassVar[Directions] = {"iou": "max", "dice": "max", "accuracy": "max", "loss": "min"}

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.monitor, self.dice, self.num_classes = cfg.monitor, cfg.dice, len(about["classes"])

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch, in float32, and the number of images that it covers.

        The training core divides by the count of the whole optimizer step, over all processes and accumulated
        batches, so unequal batches weigh correctly. Do not average here.
        """
        losses = self.losses(model(batch["image"]).float(), batch["mask"])
        return losses.sum(), torch.tensor(len(losses))

    def losses(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The loss of each image [B]: mean cross-entropy of its pixels, and 1 less the mean Dice of all classes."""
        known = mask != masks.IGNORED
        truth = (mask * known).long()
        entropy = cross_entropy(logits, truth, reduction="none") * known
        chances = logits.softmax(dim=1) * known[:, None]
        wanted = torch.zeros_like(chances).scatter_(1, truth[:, None], 1.0) * known[:, None]
        both, either = (chances * wanted).sum((2, 3)), (chances + wanted).sum((2, 3))
        dice = (2 * both + 1) / (either + 1)  # of a class that an image does not have, too: 1 if nothing is given it
        return entropy.sum((1, 2)) / known.sum((1, 2)).clamp(min=1) + self.dice * (1 - dice.mean(dim=1))

    def measure(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """What `scores` needs, as float64 sums over the samples of a batch: they are added over batches and processes.

        `loss` [] and `images` []; `confusion` [C, C]: the number of pixels by true class (rows) and predicted class;
        `shown`: see `show`.
        """
        logits, mask = net(batch["image"]).float(), batch["mask"]
        given, losses = logits.argmax(dim=1), self.losses(logits, mask)
        cells = torch.where(mask != masks.IGNORED, mask.long() * self.num_classes + given, self.num_classes**2)
        counts = torch.bincount(cells.flatten(), minlength=self.num_classes**2 + 1)[:-1].view(self.num_classes, -1)
        sums = {"loss": losses.sum(), "images": torch.ones_like(losses).sum(), "confusion": counts}
        return {name: value.double() for name, value in sums.items()} | {"shown": show(batch, given)}

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Mean loss, the share of right pixels, mean IoU and mean Dice.

        A class that was neither present nor predicted has no IoU and is left out of the means.
        """
        counts = sums["confusion"]
        hits, both = counts.diag(), counts.sum(0) + counts.sum(1)
        hits, both, total = hits[both > 0], both[both > 0], counts.sum()
        means = {"iou": (hits / (both - hits)).mean(), "dice": (2 * hits / both).mean(), "accuracy": hits.sum() / total}
        return {name: value.item() for name, value in means.items()} | {"loss": (sums["loss"] / sums["images"]).item()}


def show(batch: Batch, given: Tensor) -> Tensor:
    """The first samples of a split, where they are in this batch, and zeros for others: [SHOWN, C + 2, h, w].

    Channels of the image as bytes, the mask and the prediction; of large images every n-th pixel.
    """
    every = -(-max(given.shape[1:]) // LONGEST)
    found = ((batch["image"] * images.WHITE).round(), batch["mask"][:, None], given[:, None])
    parts = torch.cat([part[..., ::every, ::every].double() for part in found], dim=1)
    place = torch.arange(SHOWN, device=given.device)[:, None] == batch["number"]  # [SHOWN, B]
    shown: Tensor = torch.tensordot(place.double(), parts, dims=1)
    return shown
