"""The data: scikit-learn's handwritten digits, each with noise to start from."""

import hashlib
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from ..generated import CLASSES, SHOWN
from ..interface import Batch, Data
from ..noise import normal, seeds_of
from .settings import DataConfig

WHITE = 255
HELD_OUT = 0.15  # share of the images in the test split, and of the others in the validation split
SPLIT_SEED = 0  # not the run's seed, so that scores of runs with different seeds can be compared


class Pixels:
    """A source of images in memory: bytes [N, C, H, W], with labels [N]."""

    def __init__(self, pixels: Tensor, labels: Tensor, repeat: int, fingerprint: str = "") -> None:
        self.pixels, self.labels, self.repeat = pixels, labels, repeat
        self.cells = choose_cells(labels)
        self.nbytes = pixels.nbytes
        self.fingerprint = fingerprint or hashlib.sha256(pixels.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return self.repeat * len(self.labels)

    def to(self, device: torch.device) -> Self:
        """The same images on a device."""
        return type(self)(self.pixels.to(device), self.labels.to(device), self.repeat, self.fingerprint)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """See `batch_of`."""
        chosen = (torch.tensor(indices) % len(self.labels)).to(self.labels.device, non_blocking=True)
        batch = batch_of(self.pixels[chosen], self.labels[chosen], seeds_of(indices) if seeds is None else seeds)
        return batch | {"cell": self.cells[chosen]}


def choose_cells(labels: Tensor) -> Tensor:
    """Where in the picture of a run each sample is shown [N], -1 for nowhere: a row for each class."""
    cells = torch.full_like(labels, -1)
    for label in range(CLASSES):
        chosen = (labels == label).nonzero().squeeze(1)[:SHOWN]
        cells[chosen] = label * SHOWN + torch.arange(len(chosen), device=labels.device)
    return cells


#: if generator == "flow"
def batch_of(pixels: Tensor, label: Tensor, seeds: Tensor) -> Batch:
    """`image` [B, C, H, W] in 0..1, `label` [B], and from the seeds `noise` as large as images and `time` [B].

    Times are in 0..1, more of them in the middle (Esser et al. 2024, arXiv:2403.03206): the sigmoid of normal numbers.
    """
    drawn = normal(seeds, pixels[0].numel() + 1).to(pixels.device, non_blocking=True)
    noise, time = drawn[:, :-1].view(pixels.shape), drawn[:, -1].sigmoid()
    return {"image": pixels / WHITE, "label": label, "noise": noise, "time": time}


#: endif
#: if generator == "gan"
def batch_of(pixels: Tensor, label: Tensor, seeds: Tensor) -> Batch:
    """`image` [B, C, H, W] in 0..1, `label` [B], and from the seeds `noise` and `nudge`, as large as images."""
    drawn = normal(seeds, 2 * pixels[0].numel()).to(pixels.device, non_blocking=True)
    noise, nudge = drawn.view(len(pixels), 2, *pixels.shape[1:]).unbind(1)
    return {"image": pixels / WHITE, "label": label, "noise": noise, "nudge": nudge}


#: endif
def open_data(cfg: DataConfig) -> Data:
    """The three splits, each with the same share of every class."""
    digits = load_digits()  # 1,797 images of 8x8 pixels in 0..16: UCI ML hand-written digits
    pixels = torch.tensor(digits.images * (WHITE / 16)).byte().unsqueeze(1)
    labels, classes = torch.tensor(digits.target), [str(name) for name in digits.target_names]
    rest, test = split(np.arange(len(pixels)), digits.target)
    train, val = split(rest, digits.target)
    learnt = Pixels(pixels[train], labels[train], cfg.repeat)
    known, unseen = (Pixels(pixels[part], labels[part], repeat=1) for part in (val, test))
    return Data(learnt, known, unseen, {"classes": classes, "shape": [*pixels.shape[1:]]}, {})


def split(indices: NDArray[np.int64], labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Samples to learn from, and others that are held out."""
    given = {"stratify": labels[indices], "test_size": HELD_OUT, "random_state": SPLIT_SEED}
    return list(train_test_split(indices, **given))
