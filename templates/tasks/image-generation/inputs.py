"""What the trained model is asked and what it answers: shared by `predict`, `export` and the service."""

import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..errors import UserError
from ..interface import Batch
from ..noise import MOST, normal, seeds_of
from .settings import DataConfig

Arrays = dict[str, NDArray[Any]]  # by name; of a batch, samples come first

INPUTS, OUTPUTS = ("noise", "labels"), ("images",)  # of `Exported`, in order
DYNAMIC = {name: {0: "batch"} for name in INPUTS + OUTPUTS}  # axes whose length varies, and a word for each
TOLERANCE = 1e-3  # how far an exported model's answers may differ from the plain model's
FILES = {"image": ".png"}  # what of a prediction is a file, in base64, and its suffix


class Exported(nn.Module):
    """What is exported: from noise [B, C, H, W] and class numbers [B] to images [B, C, H, W] in 0..1."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        #: if generator == "flow"
        self.net = net

        #: endif
        #: if generator == "gan"
        self.net = net.generator

    #: endif
    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        images: Tensor = self.net.sample(noise, labels)
        return images


def example(about: dict[str, Any], size: int = 2) -> Arrays:
    """Noise of the first seeds, for each class in turn, to trace a model with and to check it."""
    asked = [ask(number % len(about["classes"]), number, about) for number in range(size)]
    return collate(asked)


def ask(label: int, seed: int, about: dict[str, Any]) -> Arrays:
    """What the model is asked for an image of a class: the noise that a seed stands for, and the class."""
    noise = normal(seeds_of([seed]), int(np.prod(about["shape"])))
    return {"noise": noise.view(about["shape"]).numpy(), "labels": np.array(label)}


def differ(expected: Arrays, answers: Arrays) -> NDArray[Any]:
    """By how much each of the answers differs from what is expected: the largest difference of a pixel."""
    return np.asarray(np.abs(answers["images"] - expected["images"]).max(axis=(1, 2, 3)))


def from_batch(batch: Batch) -> Arrays:
    """What the model would be asked for the samples of a source."""
    return {"noise": batch["noise"].numpy(), "labels": batch["label"].numpy()}


def read(argument: str, about: dict[str, Any], cfg: DataConfig) -> Iterator[tuple[str, Arrays]]:
    """Name and content of each input that an argument stands for: CLASS, CLASS:SEED or CLASS:FIRST-LAST."""
    parts = re.fullmatch(r"(?P<name>.*?)(:(?P<first>\d{1,99})(-(?P<last>\d{1,99}))?)?", argument, re.DOTALL)
    name, first, last = parts.group("name", "first", "last") if parts else (argument, None, None)
    if name not in about["classes"]:
        known = ", ".join(about["classes"][:20])
        raise UserError(f"{argument}: give a class, {known}, alone or with seeds, such as CLASS:7 or CLASS:0-15.")
    begin = int(first or 0)
    if max(begin, end := int(last or begin)) >= MOST or end < begin:
        raise UserError(f"{argument}: give seeds below {MOST}, the first one first.")
    for seed in range(begin, end + 1):
        yield f"{name}-{seed}", ask(about["classes"].index(name), seed, about)


def collate(samples: list[Arrays]) -> Arrays:
    """One batch of several inputs."""
    return {name: np.stack([sample[name] for sample in samples]) for name in INPUTS}


def predictions(answers: Arrays, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Each image as a PNG file in base64."""
    return [{"image": base64.b64encode(encode(image)).decode()} for image in answers["images"]]


def encode(image: NDArray[np.float32]) -> bytes:
    """An image [C, H, W] in 0..1 as a PNG file."""
    pixels, file = (image * 255).round().astype(np.uint8).transpose(1, 2, 0), io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()
