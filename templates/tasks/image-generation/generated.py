"""What is known of generated images: how far they are from real ones, and some to look at.

All of it follows from sums that are added over batches and processes. They need no weights from elsewhere.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from .errors import LOG
from .interface import Batch

FEATURES = 8  # along each side to which images are averaged before they are compared
ALIKE = 0.05  # of the variance of real images: those that vary less are nearly all alike
SHOWN, CLASSES = 8, 16  # images of a class in the picture of a run, and the most classes there


def measure(net: Any, batch: Batch, num_classes: int) -> dict[str, Tensor]:
    """Float64 sums over one generated image for each real one, of the same class.

    `real` and `made`: see `products`; `shown`: see `show`.
    """
    made = net.sample(batch["noise"], batch["label"])
    sums = {"shown": show(made, batch["cell"])}
    images = {"real": batch["image"], "made": made}
    return sums | {name: products(each, batch["label"], num_classes) for name, each in images.items()}


def products(images: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """The number of images, the sums of their features, and those of all products of two: [1 + F, 1 + F].

    Features are what is seen of an image at no more than 8x8 pixels, and its class as one-hot numbers.
    """
    height, width = (min(FEATURES, size) for size in images.shape[2:])
    seen = adaptive_avg_pool2d(images.float(), (height, width)).flatten(1)
    features = torch.cat((torch.ones_like(seen[:, :1]), seen, one_hot(label, num_classes)), dim=1).double()
    return features.T @ features


def show(made: Tensor, cell: Tensor) -> Tensor:
    """The images that have a cell in the picture of a run, and zeros for others: [CLASSES * SHOWN, C, H, W]."""
    place = torch.arange(CLASSES * SHOWN, device=made.device)[:, None] == cell  # [cells, B]
    shown: Tensor = torch.tensordot(place.double(), made.double(), dims=1)
    return shown


def compare(sums: dict[str, Tensor], num_classes: int, remedy: str) -> dict[str, float]:
    """The Frechet distance of features and classes; how far the variance in classes is from that of real images.

    The second is a share of the variance of real images: 1 where all images of a class are alike. That is also said,
    with what may help, unless there are too few images to tell.
    """
    wanted, found = (within_classes(moments(sums[name])[1], num_classes) for name in ("real", "made"))
    if found < ALIKE * wanted and sums["real"][0, 0] > 2 * num_classes:
        less = 100 * found / wanted
        LOG.warning("Images of a class are nearly all alike: they vary %.1f%% as much as real ones. %s", less, remedy)
    distance = frechet(*moments(sums["real"]), *moments(sums["made"]))
    return {"frechet": distance, "spread": abs(found - wanted) / max(wanted, 1e-12)}


def moments(products: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F] and covariance [F, F] of features."""
    mean, of_two = products[0, 1:] / products[0, 0], products[1:, 1:] / products[0, 0]
    return mean, of_two - mean.outer(mean)


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
