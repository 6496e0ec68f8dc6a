"""What the trained model is asked and what it answers: shared by `predict`, `export` and the service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import images
from ..errors import checked
from ..interface import Batch
from ..seeding import uniform
from .settings import DataConfig

Arrays = dict[str, NDArray[Any]]  # by name; of a batch, samples come first

INPUTS, OUTPUTS = ("images",), ("probabilities",)  # of `Exported`, in order
DYNAMIC = {"images": {0: "batch"}, "probabilities": {0: "batch"}}  # axes whose length varies, and a word for each
TOLERANCE = 1e-5  # how far an exported model's answers may differ from the plain model's


class Exported(nn.Module):
    """What is exported: from images as bytes [B, C, H, W] to probabilities [B, num_classes]."""

    #: if pretrained == "none"
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    #: endif
    #: if pretrained == "transformers"
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.most = net.merged(), dict[str, int]()  # of axes that the network bounds

    #: endif
    def forward(self, pixels: Tensor) -> Tensor:
        probabilities: Tensor = self.net(pixels / images.WHITE).float().softmax(dim=1)
        return probabilities


def example(about: dict[str, Any], size: int = 2) -> Arrays:
    """Images of noise that are the same everywhere, to trace a model with and to check it."""
    shape = about["shape"]
    noise = uniform(torch.arange(size), torch.Size(shape).numel()) * (images.WHITE + 1)
    return {"images": noise.byte().view(size, *shape).numpy()}


def differ(expected: Arrays, answers: Arrays) -> NDArray[Any]:
    """By how much each of the answers differs from what is expected: in its numbers, or infinitely in its class."""
    old, new = expected["probabilities"], answers["probabilities"]
    return np.where(old.argmax(axis=1) == new.argmax(axis=1), np.abs(new - old).max(axis=1), np.inf)


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
    """The most probable class of each input."""
    rows = answers["probabilities"]
    best = enumerate(rows.argmax(axis=1).tolist())
    return [{"label": about["classes"][i], "index": i, "probability": round(rows.item(n, i), 6)} for n, i in best]
