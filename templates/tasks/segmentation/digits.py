"""Images to begin with: real digits on real photographs, put together here. No camera has taken them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_sample_images

COUNTS = (240, 80, 80)  # images of the three splits
SIDE, DIGIT = 32, 16  # pixels of an image, and of the digit on it


def compose() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Images [N, 3, H, W] and masks [N, H, W] of each split, the same everywhere.

    Splits share neither a digit nor a part of a photograph.
    """
    drawn = load_digits().images  # 1,797 images of 8x8 pixels in 0..16: UCI ML hand-written digits
    photographs = np.stack(load_sample_images().images)  # two of 427x640 pixels
    chance, edge = np.random.default_rng(0), 0
    order = iter(chance.permutation(len(drawn)))
    for count in COUNTS:
        strip = photographs.shape[2] * count // sum(COUNTS)
        samples = [_paste(drawn[next(order)], photographs[:, :, edge : edge + strip], chance) for _ in range(count)]
        edge += strip
        yield np.stack([pixels for pixels, _ in samples]), np.stack([mask for _, mask in samples])


def _paste(digit: Any, photographs: Any, chance: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """A digit in a color and a place of its own, on a part of a photograph."""
    _, height, width, _ = photographs.shape
    top, left = chance.integers(height - SIDE), chance.integers(width - SIDE)
    image = photographs[chance.integers(len(photographs)), top : top + SIDE, left : left + SIDE].astype(float)
    ink = np.kron(digit, np.ones((2, 2))) / 16
    top, left = chance.integers(SIDE - DIGIT, size=2)
    place = (slice(top, top + DIGIT), slice(left, left + DIGIT))
    image[place] += (chance.integers(256, size=3) - image[place]) * ink[..., None]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[place] = ink > 0.45
    return image.transpose(2, 0, 1).astype(np.uint8), mask
