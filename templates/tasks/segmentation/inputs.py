"""What the trained model is asked and what it answers: shared by `predict`, `export` and the service."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import images, masks
from ..errors import checked
from ..interface import Batch
from ..seeding import uniform
from .settings import DataConfig

Arrays = dict[str, NDArray[Any]]  # by name; of a batch, samples come first

INPUTS, OUTPUTS = ("images",), ("masks", "confidences")  # of `Exported`, in order
DYNAMIC = {name: {0: "batch"} for name in INPUTS + OUTPUTS}  # axes whose length varies, and a word for each
TOLERANCE = 1e-3  # how far an exported model's answers may differ from the plain model's; rounding alone made 1.1e-4
FILES = {"mask": ".png"}  # what of a prediction is a file, in base64, and its suffix


class Exported(nn.Module):
    """What is exported: from images as bytes [B, C, H, W] to masks [B, H, W] as bytes.

    The second result [B, H, W] has the probability of each pixel's class.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        chances = self.net(pixels / images.WHITE).float().softmax(dim=1)
        return chances.argmax(dim=1).byte(), chances.amax(dim=1)


def example(about: dict[str, Any], size: int = 2) -> Arrays:
    """Images of noise that are the same everywhere, to trace a model with and to check it."""
    shape = about["shape"]
    noise = uniform(torch.arange(size), torch.Size(shape).numel()) * (images.WHITE + 1)
    return {"images": noise.byte().view(size, *shape).numpy()}


def differ(expected: Arrays, answers: Arrays) -> NDArray[Any]:
    """By how much each of the answers differs from what is expected: the largest difference of a confidence.

    A pixel whose class is another counts by what either class has above a half: two can only be as probable up to that.
    """
    old, new = expected["confidences"], answers["confidences"]
    other = np.where(expected["masks"] == answers["masks"], 0, np.maximum(old, new) - 0.5)
    return np.asarray(np.maximum(np.abs(new - old), other).max(axis=(1, 2)))


def from_batch(batch: Batch) -> Arrays:
    """What the model would be asked for the samples of a source."""
    return {"images": (batch["image"] * images.WHITE).round().byte().numpy()}


def read(argument: str, about: dict[str, Any], cfg: DataConfig) -> Iterator[tuple[str, Arrays]]:
    """Name and content of each input that an argument of `predict` stands for: an image, a folder, an .npy array."""
    path, shape = Path(argument).expanduser(), tuple(about["shape"])
    if path.suffix == ".npy":
        with checked(path, f"An array of images {list(shape)} is needed."):
            array = images.to_bytes(np.load(path, allow_pickle=False)).reshape(-1, *shape)
        yield from ((f"{path}[{i}]", {"images": pixels}) for i, pixels in enumerate(array))
    else:
        for file in images.find(path, shape, cfg.skip_bad) if path.is_dir() else [path]:
            yield str(file), {"images": images.read(file, shape)}


def collate(samples: list[Arrays]) -> Arrays:
    """One batch of several inputs."""
    return {name: np.stack([sample[name] for sample in samples]) for name in INPUTS}


def predictions(answers: Arrays, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The mask of each input as a PNG file in base64, the share of each class, and the mean confidence."""
    return [
        {
            "mask": base64.b64encode(masks.encode(mask)).decode(),
            "shares": {name: round(float((mask == i).mean()), 6) for i, name in enumerate(about["classes"])},
            "confidence": round(float(confidence.mean()), 6),
        }
        for mask, confidence in zip(answers["masks"], answers["confidences"], strict=True)
    ]
