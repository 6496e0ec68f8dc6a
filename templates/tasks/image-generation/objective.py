"""What the network is trained to do, and how well it does it."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from ..interface import Batch, Directions
from .settings import ObjectiveConfig

FEATURES = 8  # along each side to which images are averaged before they are compared
SHOWN, CLASSES = 8, 16  # images of a class in the picture of a run, and the most classes there


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
        """What `scores` needs, as float64 sums over the samples of a batch: they are added over batches and processes.

        One image is generated for each real one, of the same class. `real` and `made` [1 + F, 1 + F]: their number, the
        sums of their features, and those of all products of two; `shown`: see `show`.
        """
        made = net.sample(batch["noise"], batch["label"])
        sums = {"loss": self.losses(net, batch).sum().double()}
        for name, images in (("real", batch["image"]), ("made", made)):
            features = self.features(images, batch["label"])
            sums[name] = features.T @ features
        return sums | {"shown": show(made, batch["cell"])}

    def features(self, images: Tensor, label: Tensor) -> Tensor:
        """1, what is seen of each image at no more than 8x8 pixels, and its class: float64 [B, 1 + F]."""
        height, width = (min(FEATURES, size) for size in images.shape[2:])
        seen = adaptive_avg_pool2d(images.float(), (height, width)).flatten(1)
        return torch.cat((torch.ones_like(seen[:, :1]), seen, one_hot(label, self.num_classes)), dim=1).double()

    def scores(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """The Frechet distance of features and classes; how far the variance in classes is from that of real images.

        The second is a share of the variance of real images: 1 where all images of a class are alike.
        """
        real, made = (moments(sums[name]) for name in ("real", "made"))
        wanted, found = (within_classes(covariance, self.num_classes) for _, covariance in (real, made))
        scores = {"frechet": frechet(*real, *made), "spread": abs(found - wanted) / max(wanted, 1e-12)}
        scores["loss"] = (sums["loss"] / sums["real"][0, 0]).item()
        return scores


def moments(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F] and covariance [F, F] of features, from their `sums` [1 + F, 1 + F]."""
    mean, products = sums[0, 1:] / sums[0, 0], sums[1:, 1:] / sums[0, 0]
    return mean, products - mean.outer(mean)


def frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """The distance of two normal distributions (Frechet 1957), squared, as FID has it (arXiv:1706.08500)."""
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    common = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    apart = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace()
    return float(apart - 2 * common)


def within_classes(covariance: Tensor, num_classes: int) -> float:
    """The variance of what is seen that is left where the class is known."""
    seen, classes = covariance[:-num_classes, :-num_classes], covariance[-num_classes:, -num_classes:]
    both = covariance[:-num_classes, -num_classes:]
    known = both @ torch.linalg.pinv(classes, hermitian=True, rtol=1e-9) @ both.T
    return float(seen.trace() - known.trace())


def show(made: Tensor, cell: Tensor) -> Tensor:
    """The images that have a cell in the picture of a run, and zeros for others: [CLASSES * SHOWN, C, H, W]."""
    place = torch.arange(CLASSES * SHOWN, device=made.device)[:, None] == cell  # [cells, B]
    shown: Tensor = torch.tensordot(place.double(), made.double(), dims=1)
    return shown
