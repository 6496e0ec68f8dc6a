"""The data: scikit-learn's handwritten digits, or a folder of images with `labels.csv`."""

import csv
import hashlib
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from .. import images
from ..errors import UserError, checked
from ..interface import Batch, Data
from ..seeding import uniform
from .settings import DataConfig

FOLDER_SHAPE: images.Shape = (3, 64, 64)  # images of a folder are read as RGB and scaled to this size
HELD_OUT = 0.15  # share of the images in the test split, and of the others in the validation split
SPLIT_SEED = 0  # not the run's seed, so that scores of runs with different seeds can be compared

Labels = NDArray[Any]  # [N, C] float32: 1 for each label that an image has, else 0


class Pixels:
    """A source of images in memory: bytes [N, C, H, W], with labels [N, num_classes]."""

    def __init__(self, pixels: Tensor, labels: Tensor, shift: float, fingerprint: str = "") -> None:
        self.pixels, self.labels, self.shift = pixels, labels, shift
        self.nbytes = pixels.nbytes
        self.fingerprint = fingerprint or hashlib.sha256(pixels.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Self:
        """The same images on a device."""
        return type(self)(self.pixels.to(device), self.labels.to(device), self.shift, self.fingerprint)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """`image` [B, C, H, W] in 0..1, and `label` [B, num_classes]."""
        chosen = torch.tensor(indices).to(self.pixels.device, non_blocking=True)
        image = self.pixels[chosen] / images.WHITE
        return {"image": image if seeds is None else move(image, seeds, self.shift), "label": self.labels[chosen]}


class Files:
    """A source of image files, each of which is read when it is asked for."""

    def __init__(self, root: Path, paths: list[Path], labels: Labels, shift: float, shape: images.Shape) -> None:
        self.root, self.labels, self.shift, self.shape = root, torch.from_numpy(labels), shift, shape
        self.names = np.array([str(path.relative_to(root)) for path in paths])
        sizes = "".join(f"{path.relative_to(root)}:{path.stat().st_size}\n" for path in paths)
        self.fingerprint = hashlib.sha256(sizes.encode(errors="surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """`image` [B, C, H, W] in 0..1, and `label` [B, num_classes]."""
        pixels = np.stack([images.read(self.root / self.names[index], self.shape) for index in indices])
        image = torch.from_numpy(pixels) / images.WHITE
        return {"image": image if seeds is None else move(image, seeds, self.shift), "label": self.labels[indices]}


def move(image: Tensor, seeds: Tensor, shift: float) -> Tensor:
    """Move images [B, C, H, W] by up to `shift` of their size along each axis."""
    moves = 2 * shift * (2 * uniform(seeds, 2) - 1)
    transforms = torch.eye(2, 3, device=image.device).repeat(len(image), 1, 1)
    transforms[:, :, 2] = moves.to(image.device, non_blocking=True)
    grid = affine_grid(transforms, list(image.shape), align_corners=False)
    return grid_sample(image, grid, align_corners=False) if shift else image


def open_data(cfg: DataConfig) -> Data:
    """The three splits. Raises `UserError` for a folder that cannot be used."""
    return open_digits(cfg) if cfg.root is None else open_folder(cfg.root, cfg)


def open_digits(cfg: DataConfig) -> Data:
    digits = load_digits()  # 1,797 images of 8x8 pixels in 0..16: UCI ML hand-written digits
    pixels = torch.tensor(digits.images * (images.WHITE / 16)).byte().unsqueeze(1)
    number = digits.target
    labels = {"even": number % 2 == 0, "prime": np.isin(number, (2, 3, 5, 7)), "small": number < 5}
    rows = torch.tensor(np.stack([*labels.values()], axis=1)).float()
    train, val, test = (Pixels(pixels[part], rows[part], cfg.shift) for part in split(len(pixels)))
    return Data(train, val, test, {"classes": [*labels], "shape": [1, 8, 8]}, {})


def open_folder(root: Path, cfg: DataConfig) -> Data:
    """Images that `labels.csv` names, a line for each: `file,labels`, with spaces between labels."""
    path, shape = root / "labels.csv", FOLDER_SHAPE
    wanted = "Give it the columns file and labels, such as `a.png,cat night`."
    with checked(path, wanted), path.open(newline="", encoding="utf-8") as file:
        labels = {line["file"]: line["labels"].split() for line in csv.DictReader(file)}
    files = {file.relative_to(root).as_posix(): file for file in images.find(root, shape, cfg.skip_bad)}
    if (missing := sorted(labels.keys() - files.keys())) and not cfg.skip_bad:
        raise UserError(f"{path}: it names {missing[0]}, and there is no such image. Add it, or delete the line.")
    names = sorted(labels.keys() & files.keys())
    classes = sorted({label for name in names for label in labels[name]})
    rows = np.array([[label in labels[name] for label in classes] for name in names], np.float32)
    train, val, test = (
        Files(root, [files[names[i]] for i in part], rows[part], cfg.shift, shape) for part in split(len(names))
    )
    return Data(train, val, test, {"classes": classes, "shape": list(shape)}, {})


def split(count: int) -> list[NDArray[np.int64]]:
    """The indices of train, val and test."""
    if count < 10:
        raise UserError(f"data: {count} images are too few for three splits. Add some.")
    rest, test = train_test_split(np.arange(count), test_size=HELD_OUT, random_state=SPLIT_SEED)
    train, val = train_test_split(rest, test_size=HELD_OUT, random_state=SPLIT_SEED)
    return [train, val, test]
