"""The images and their loaders: scikit-learn's handwritten digits, or a folder of images per class."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from . import optim, seeding, signals
from .config import Config, DataConfig, UserError
from .processes import rank, world_size

Batch = tuple[Tensor, Tensor]  # images [B, C, H, W] in 0..1 and labels [B]
Share = tuple[list[int], list[list[float]]]  # of a step: indices [B] and moves [B, 2]
Shape = tuple[int, int, int]
Loaders = tuple[DataLoader[Batch], DataLoader[Batch]]  # to train on, to validate with

FOLDER_SHAPE: Shape = (3, 64, 64)  # images of a folder are read as RGB and scaled to this size
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # of files with these suffixes; no other is decoded
WHITE = 255  # of bytes; the network takes numbers in 0..1
HELD_OUT = 0.15  # share of the images in the test split, and of the others in the validation split
SPLIT_SEED = 0  # not the run's seed, so that scores of runs with different seeds can be compared
SHIFT = 0.125  # share of its size by which a training image moves at most, along each axis


class Split(TensorDataset):
    """Images in memory, as bytes [N, C, H, W], with their labels [N]; an item is a batch, by its indices."""

    def __getitem__(self, indices: Any) -> Batch:
        images, labels = self.tensors
        chosen = torch.tensor(indices).to(images.device, non_blocking=True)
        return images[chosen] / WHITE, labels[chosen]


class Augmented(Split):
    """Training images that are moved a little; an item is a batch, by what `TrainBatches` yields."""

    def __getitem__(self, share: Share) -> Batch:
        indices, moves = share
        images, labels = super().__getitem__(indices)
        transforms = torch.eye(2, 3, device=images.device).repeat(len(indices), 1, 1)
        transforms[:, :, 2] = 2 * SHIFT * torch.tensor(moves).to(images.device, non_blocking=True)
        grid = nn.functional.affine_grid(transforms, list(images.shape), align_corners=False)
        return nn.functional.grid_sample(images, grid, align_corners=False), labels


class TrainBatches(Sampler[Share]):
    """Yields this process's share of each step: its indices, and how far each image is moved, -1..1 along x and y.

    The order is f(seed, epoch), whatever the number of processes: step after step they share out the next
    `batch_size * world_size` samples. The few that are left at the end of an epoch are skipped. The moves are
    f(seed, epoch, index), so they do not depend on the worker that moves an image.
    """

    def __init__(self, num_samples: int, cfg: Config, step: int) -> None:
        self.num_samples, self.seed, self.batch_size = num_samples, cfg.seed, cfg.data.batch_size
        if len(self) == 0:
            few = f"the {num_samples} training images are too few for one step of {world_size()} process(es)"
            raise UserError(f"data.batch_size={self.batch_size}: {few}. Lower data.batch_size.")
        self.epoch, steps = divmod(step, optim.steps_per_epoch(cfg, len(self)))
        self.done = {self.epoch: steps * cfg.optim.accumulate}  # batches of the epoch that a run resumes in

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to yield next, before it begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples // (self.batch_size * world_size())

    def __iter__(self) -> Iterator[Share]:
        order = torch.randperm(self.num_samples, generator=seeding.generator(self.seed, self.epoch))
        moves = 2 * torch.rand(self.num_samples, 2, generator=seeding.generator(self.seed, self.epoch, 1)) - 1
        steps = order[: len(self) * world_size() * self.batch_size].view(len(self), world_size(), -1)
        return ((own.tolist(), moves[own].tolist()) for own in steps[self.done.get(self.epoch, 0) :, rank()])


class Images(NamedTuple):
    """The three splits, each with the same share of every class."""

    train: Split
    val: Split
    test: Split
    classes: list[str]
    shape: Shape


def load_images(cfg: DataConfig) -> Images:
    """Read all images and split them; raises `UserError` for a folder that cannot be trained on."""
    images, labels, classes = _read_digits() if cfg.root is None else _read_folder(cfg.root)
    try:
        options = {"test_size": HELD_OUT, "random_state": SPLIT_SEED}
        rest, test = train_test_split(np.arange(len(labels)), stratify=labels, **options)
        train, val = train_test_split(rest, stratify=labels[rest], **options)
    except ValueError as error:
        raise UserError(f"data.root={cfg.root}: too few images for three splits. {error}") from None
    train, val, test = (Split(images[part], labels[part]) for part in (train, val, test))
    return Images(train, val, test, classes, (images.shape[1], images.shape[2], images.shape[3]))


def load_image(path: Path | BinaryIO, shape: Shape) -> Tensor:
    """Read an image file as bytes [C, H, W] of this shape; a file that is none is named in a `UserError`."""
    channels, height, width = shape
    try:
        with Image.open(path, formats=FORMATS) as image:
            pixels = np.array(image.convert("L" if channels == 1 else "RGB").resize((width, height)))
    except OSError as error:  # Pillow's own error is one
        raise UserError(f"{path}: this image cannot be read ({error}). Replace it or leave it out.") from None
    return torch.from_numpy(pixels).reshape(height, width, channels).permute(2, 0, 1)


def find_images(folder: Path) -> list[Path]:
    """The images in a folder and in those below it, in order; raises `UserError` where there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"{folder}: this folder has no images. Add some, or leave it out.")
    return found


def build_loaders(images: Images, cfg: Config, step: int) -> Loaders:
    """The loaders to train on and to validate with, after `step` optimizer steps that are done already.

    Images that take less than a quarter of the GPU's free memory are kept there, unless workers load them.
    """
    tensors = [*images.train.tensors, *images.val.tensors]
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() and cfg.data.num_workers == 0 else 0
    if 4 * sum(tensor.nbytes for tensor in tensors) < free:
        tensors = [tensor.cuda() for tensor in tensors]
    batches = TrainBatches(len(images.train), cfg, step)
    return _build_loader(Augmented(*tensors[:2]), batches, cfg), build_eval_loader(Split(*tensors[2:]), cfg)


def build_eval_loader(split: Split, cfg: Config) -> DataLoader[Batch]:
    """Batches of this process's share; all processes together see each sample exactly once.

    Every process has as many batches, of sizes that differ by one at most, so that none waits for another.
    (`DistributedSampler` would even out the shares by counting some samples twice.)
    """
    num_batches = math.ceil(len(split) / world_size() / cfg.data.batch_size)
    if len(split) < num_batches * world_size():
        raise UserError(f"{len(split)} held-out images are too few for {world_size()} processes.")
    batches = np.array_split(np.arange(rank(), len(split), world_size()), num_batches)
    return _build_loader(split, [batch.tolist() for batch in batches], cfg)


def _build_loader(dataset: Dataset[Any], batches: Iterable[Any], cfg: Config) -> DataLoader[Batch]:
    options: Any = {"persistent_workers": True, "pin_memory": torch.cuda.is_available()} if cfg.data.num_workers else {}
    options |= {"num_workers": cfg.data.num_workers, "worker_init_fn": signals.ignore_signals}
    return DataLoader(dataset, batch_size=None, sampler=batches, **options)  # an item is a batch already


def _read_digits() -> tuple[Tensor, Tensor, list[str]]:
    digits = load_digits()  # 1,797 images of 8x8 pixels in 0..16: UCI ML hand-written digits
    images = torch.tensor(digits.images * (WHITE / 16)).byte().unsqueeze(1)
    return images, torch.tensor(digits.target), [str(name) for name in digits.target_names]


def _read_folder(root: Path) -> tuple[Tensor, Tensor, list[str]]:
    if not root.is_dir():
        raise UserError(f"data.root={root}: there is no such folder.")
    classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    if len(classes) < 2:
        raise UserError(f"data.root={root}: it holds {len(classes)} folder(s); give each class a folder.")
    files = [find_images(root / name) for name in classes]
    images = [load_image(path, FOLDER_SHAPE) for paths in files for path in paths]
    labels = [label for label, paths in enumerate(files) for _ in paths]
    return torch.stack(images), torch.tensor(labels), classes
