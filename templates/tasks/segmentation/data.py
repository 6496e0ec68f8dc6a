"""The data: handwritten digits on photographs, or a folder of images with their masks."""

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .. import digits, images, masks, splits
from ..interface import Batch, Data
from ..seeding import uniform
from .settings import DataConfig


class Composed:
    """A source of images in memory: bytes [N, C, H, W], with masks [N, H, W]."""

    def __init__(self, pixels: Tensor, mask: Tensor, cfg: DataConfig, fingerprint: str = "") -> None:
        self.pixels, self.mask, self.cfg = pixels, mask, cfg
        self.nbytes = pixels.nbytes + mask.nbytes
        self.fingerprint = fingerprint or hashlib.sha256(mask.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.mask)

    def to(self, device: torch.device) -> Self:
        """The same images on a device."""
        return type(self)(self.pixels.to(device), self.mask.to(device), self.cfg, self.fingerprint)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """See `batch_of`."""
        chosen = torch.tensor(indices).to(self.mask.device, non_blocking=True)
        return batch_of(self.pixels[chosen], self.mask[chosen], chosen, seeds, self.cfg)


class Pairs:
    """A source of files of images and masks, each of which is read when it is asked for."""

    def __init__(self, root: Path, pairs: list[masks.Pair], classes: list[str], cfg: DataConfig) -> None:
        self.root, self.num_classes, self.cfg = root, len(classes), cfg
        self.names = np.array([[str(path.relative_to(root)) for path in pair] for pair in pairs])
        sizes = "".join(f"{path.relative_to(root)}:{path.stat().st_size}\n" for pair in pairs for path in pair)
        self.fingerprint = hashlib.sha256(f"{classes}{sizes}".encode(errors="surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """See `batch_of`."""
        pairs = [masks.Pair(*(self.root / name for name in self.names[index])) for index in indices]
        read = [masks.read_pair(pair, (3, *self.cfg.size), self.num_classes) for pair in pairs]
        pixels, mask = (torch.from_numpy(np.stack(part)) for part in zip(*read, strict=True))
        return batch_of(pixels, mask, torch.tensor(indices), seeds, self.cfg)


def batch_of(pixels: Tensor, mask: Tensor, number: Tensor, seeds: Tensor | None, cfg: DataConfig) -> Batch:
    """`image` [B, C, H, W] in 0..1, `mask` [B, H, W] of class numbers as bytes, `number` [B] in the split."""
    image = pixels / images.WHITE
    if seeds is not None and (cfg.flip or cfg.shift or cfg.zoom):
        image, mask = move(image, mask, seeds, cfg)
    return {"image": image, "mask": mask, "number": number}


def move(image: Tensor, mask: Tensor, seeds: Tensor, cfg: DataConfig) -> tuple[Tensor, Tensor]:
    """Mirror, scale and shift images [B, C, H, W] and their masks [B, H, W] alike; edges are continued as in a mirror.

    Masks are not blended: a pixel takes the class of the one that is nearest to where it comes from.
    """
    chance = uniform(seeds, 4).to(image.device, non_blocking=True)
    scale = 1 + cfg.zoom * (2 * chance[:, :1] - 1)
    mirror = 1 - 2 * (chance[:, 1:2] < 0.5 * cfg.flip).float()
    across, down = (2 * cfg.shift * (2 * chance[:, 2:, None] - 1)).unbind(1)
    height, width = mask.shape[1:]
    x = scale * mirror * centers(width, image.device) + across  # [B, W]
    y = scale * centers(height, image.device) + down  # [B, H]
    grid = torch.stack(torch.broadcast_tensors(x[:, None], y[..., None]), dim=-1)
    moved = grid_sample(image, grid, padding_mode="reflection", align_corners=False)
    classes = grid_sample(mask[:, None].float(), grid, "nearest", padding_mode="reflection", align_corners=False)
    return moved, classes[:, 0].byte()


def centers(size: int, device: torch.device) -> Tensor:
    """Where the centers of so many pixels are between -1 and 1."""
    return (2 * torch.arange(size, device=device) + 1) / size - 1


def open_data(cfg: DataConfig) -> Data:
    """The three splits: see `splits.split`. Raises `UserError` for a folder that cannot be used."""
    return open_digits(cfg) if cfg.root is None else open_folder(cfg.root, cfg)


def open_digits(cfg: DataConfig) -> Data:
    made = [*digits.compose()]
    pixels, mask = (torch.from_numpy(np.concatenate(part)) for part in zip(*made, strict=True))
    ends = np.cumsum([len(part) for _, part in made])
    given = dict(zip(("train", "val", "test"), np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    parts = splits.split([*map(str, range(ends[-1]))], cfg.fold, cfg.folds, given)
    train, val, test = (Composed(pixels[part], mask[part], cfg) for part in parts)
    return Data(train, val, test, {"classes": ["photograph", "digit"], "shape": [3, digits.SIDE, digits.SIDE]}, {})


def open_folder(root: Path, cfg: DataConfig) -> Data:
    classes, shape = masks.read_classes(root), (3, *cfg.size)
    parts = masks.find_splits(root, shape, len(classes), cfg.skip_bad, cfg.fold, cfg.folds)
    masks.check_classes(parts[0], classes)
    train, val, test = (Pairs(root, pairs, classes, cfg) for pairs in parts)
    return Data(train, val, test, {"classes": classes, "shape": [*shape]}, {})
