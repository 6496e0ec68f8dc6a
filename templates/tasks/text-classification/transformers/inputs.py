"""What the trained model is asked and what it answers: shared by `predict`, `export` and the service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import texts, tokens
from ..interface import Batch
from .settings import DataConfig

Arrays = dict[str, NDArray[Any]]  # by name; of a batch, samples come first

INPUTS, OUTPUTS = ("tokens",), ("probabilities",)  # of `Exported`, in order
# Axes whose length varies, and a word for each. The service answers texts of like length together.
DYNAMIC = {"tokens": {0: "batch", 1: "length"}, "probabilities": {0: "batch"}}
TOLERANCE = 1e-4  # how far an exported model's answers may differ from the plain model's
EXAMPLE_TOKENS = 12


class Exported(nn.Module):
    """What is exported: from texts as tokens [B, L] int64, filled up with -1, to probabilities [B, num_classes]."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.most = net.merged(), {"length": net.most}  # of axes that the network bounds

    def forward(self, codes: Tensor) -> Tensor:
        probabilities: Tensor = self.net(codes).float().softmax(dim=1)
        return probabilities


def example(about: dict[str, Any], size: int = 2) -> Arrays:
    """Rows of tokens of several lengths that are the same everywhere, to trace a model with and to check it."""
    rows, most = np.arange(size)[:, None], min(EXAMPLE_TOKENS, about["max_tokens"])
    places = np.arange(most)
    found = (rows * 7 + places * (rows % 5 + 1)) % about["num_tokens"]
    return {"tokens": np.where(places < most - rows % most, found, tokens.PADDING)}


def differ(expected: Arrays, answers: Arrays) -> NDArray[Any]:
    """By how much each of the answers differs from what is expected: in its numbers, or infinitely in its class."""
    old, new = expected["probabilities"], answers["probabilities"]
    return np.where(old.argmax(axis=1) == new.argmax(axis=1), np.abs(new - old).max(axis=1), np.inf)


def from_batch(batch: Batch) -> Arrays:
    """What the model would be asked for the samples of a source."""
    return {"tokens": batch["text"].numpy()}


def read(argument: str, about: dict[str, Any], cfg: DataConfig) -> Iterator[tuple[str, Any]]:
    """Name and content of each text that an argument of `predict` stands for: a file of lines, a table, or itself."""
    path, names = Path(argument).expanduser(), [argument]
    if path.suffix in (".txt", *texts.FILES):
        found = texts.read_lines(path) if path.suffix == ".txt" else texts.read(path, [cfg.text])[0]
        names = [f"{argument}[{i}]" for i in range(len(found))]
    else:
        found = [argument]
    yield from zip(names, found, strict=True)


def collate(samples: list[Arrays]) -> Arrays:
    """One batch of several inputs, filled up to the longest."""
    return {"tokens": tokens.fill([sample["tokens"] for sample in samples])}


def predictions(answers: Arrays, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The most probable class of each input."""
    rows = answers["probabilities"]
    best = enumerate(rows.argmax(axis=1).tolist())
    return [{"label": about["classes"][i], "index": i, "probability": round(rows.item(n, i), 6)} for n, i in best]


@torch.inference_mode()
def predict(net: nn.Module, text: str, about: dict[str, Any], assets: dict[str, bytes]) -> dict[str, Any]:
    """What the network says of one text."""
    rows = tokens.fill(tokens.encode([text], assets, about["max_tokens"], text[:40]))
    answer = net(torch.from_numpy(rows)).float().softmax(dim=1)
    return predictions({"probabilities": answer.numpy()}, about)[0]
