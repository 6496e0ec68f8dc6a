"""What the networks are trained to do, and how well they do it."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .. import generated
from ..interface import Batch, Directions
from .settings import ObjectiveConfig

NUDGE = 0.1  # how far images are moved, where pixels are in -1..1, to see how steep the discriminator is


class Objective(nn.Module):
    """A GAN of pairs: the discriminator tells a real image from one that was generated for it, of the same class.

    A pair's loss depends on no other one, and its noise comes with the batch: so losses add up over batches and
    processes. As in R3GAN (Huang et al. 2024, arXiv:2501.05441), a discriminator that is steep at either image pays.
    """

    directions: ClassVar[Directions] = {"frechet": "min", "spread": "min"}
    phases = ("discriminator", "generator")  # of a step, in this order

    def __init__(self, cfg: ObjectiveConfig, about: dict[str, Any]) -> None:
        super().__init__()
        self.monitor, self.penalty, self.num_classes = cfg.monitor, cfg.penalty, len(about["classes"])

    def groups(self, net: nn.Module, phase: str) -> list[nn.Parameter]:
        """The weights that a phase trains; all others are constants meanwhile."""
        return [*net.get_submodule(phase).parameters()]

    def loss(self, model: Any, batch: Batch, phase: str) -> tuple[Tensor, Tensor]:
        """The loss of a phase summed over the batch, in float32, and the number of pairs that it covers.

        The training core divides by the count of the whole optimizer step, over all processes and accumulated
        batches, so unequal batches weigh correctly. Do not average here.
        """
        images = [2 * batch["image"] - 1, model.generator(batch["noise"], batch["label"])]
        if phase == "generator":
            real, made = judge(model, images, batch["label"])
            losses = softplus(real - made)
        else:
            images += [each + NUDGE * batch["nudge"] for each in images]
            real, made, beside_real, beside_made = judge(model, images, batch["label"])
            steep = (real - beside_real).square() + (made - beside_made).square()
            losses = softplus(made - real) + self.penalty / NUDGE**2 * steep
        return losses.sum(), torch.tensor(len(losses))

    def measure(self, net: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """What `scores` needs, as float64 sums over the samples of a batch, added over batches and processes."""
        return generated.measure(net, batch, self.num_classes)

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """How far generated images are from real ones: see `generated.compare`."""
        remedy = "If that stays so, the generator has collapsed: raise objective.penalty or lower optim.lr."
        return generated.compare(sums, self.num_classes, remedy)


def judge(model: Any, images: list[Tensor], label: Tensor) -> list[Tensor]:
    """How real each batch of images looks [B], all of the same classes; the discriminator is asked once."""
    answers = model.discriminator(torch.cat(images), label.repeat(len(images)))
    return [*answers.float().chunk(len(images))]
