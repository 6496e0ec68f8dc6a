"""The data: scikit-learn's handwritten digits, or a folder of images per class."""

import hashlib
#: if pretrained == "transformers"
import json
#: endif
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

#: if pretrained == "none"
from .. import images, splits
#: endif
#: if pretrained == "transformers"
from .. import images, pretrained, splits
#: endif
from ..errors import UserError
from ..interface import Batch, Data
from ..seeding import uniform
#: if pretrained == "transformers"
from .model import SMALL, SMALL_INPUTS
#: endif
from .settings import DataConfig

#: if pretrained == "none"
FOLDER_SHAPE: images.Shape = (3, 64, 64)  # images of a folder are read as RGB and scaled to this size
#: endif
SPLITS = {"train", "val", "test", "training", "valid", "validation", "testing"}  # folders that are not classes

Labels = NDArray[np.int64]


class Pixels:
    """A source of images in memory: bytes [N, C, H, W], with labels [N]."""

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
        """`image` [B, C, H, W] in 0..1, and `label` [B]."""
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
        """`image` [B, C, H, W] in 0..1, and `label` [B]."""
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
    """The three splits: see `splits.split`. Raises `UserError` for a folder that cannot be used."""
    return open_digits(cfg) if cfg.root is None else open_folder(cfg.root, cfg)


def open_digits(cfg: DataConfig) -> Data:
    digits = load_digits()  # 1,797 images of 8x8 pixels in 0..16: UCI ML hand-written digits
    pixels = torch.tensor(digits.images * (images.WHITE / 16)).byte().unsqueeze(1)
    classes = [str(name) for name in digits.target_names]
    given, names = splits.stratified(len(pixels), digits.target), [*map(str, range(len(pixels)))]
    parts, labels = splits.split(names, cfg.fold, cfg.folds, given), torch.tensor(digits.target)
    train, val, test = (Pixels(pixels[part], labels[part], cfg.shift) for part in parts)
    #: if pretrained == "none"
    return Data(train, val, test, {"classes": classes, "shape": [1, 8, 8]}, {})


    #: endif
    #: if pretrained == "transformers"
    assets = pretrained.read(cfg.pretrained, SMALL, SMALL_INPUTS)
    return Data(train, val, test, {"classes": classes, "shape": [1, 8, 8]}, assets)


#: endif
def open_folder(root: Path, cfg: DataConfig) -> Data:
    #: if pretrained == "none"
    shape = FOLDER_SHAPE
    #: endif
    #: if pretrained == "transformers"
    assets = pretrained.read(cfg.pretrained, SMALL, SMALL_INPUTS)
    shape = pretrained.Inputs(json.loads(assets[pretrained.PROCESSOR])).shape
    #: endif
    parts, classes = find_classes(root)
    paths, names, labels, given = list[Path](), list[str](), list[int](), dict[str, Labels]()
    for name, folder in parts.items():
        first = len(paths)
        for label in sorted(found.name for found in images.folders(folder)):
            own = images.find(folder / label, shape, cfg.skip_bad)
            paths, labels = paths + own, labels + [classes.index(label)] * len(own)
            names += [path.relative_to(folder).as_posix() for path in own]
        given[name] = np.arange(first, len(paths))
    known, chosen = np.array(labels), splits.split(names, cfg.fold, cfg.folds, given)
    splits.check_classes(chosen, known, classes)
    train, val, test = (Files(root, [paths[i] for i in part], known[part], cfg.shift, shape) for part in chosen)
    #: if pretrained == "none"
    return Data(train, val, test, {"classes": classes, "shape": list(shape)}, {})


    #: endif
    #: if pretrained == "transformers"
    return Data(train, val, test, {"classes": classes, "shape": list(shape)}, assets)


#: endif
def find_classes(root: Path) -> tuple[dict[str, Path], list[str]]:
    """The folder of each split that there is, and the classes; a folder without splits is all for training."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: there is no such folder.")
    parts = {folder.name: folder for folder in images.folders(root)}
    if not {name.lower() for name in parts} <= SPLITS:
        parts = {"train": root}
    classes = sorted(folder.name for folder in images.folders(parts.get("train", root)))
    if not {"train"} <= parts.keys() <= {"train", "val", "test"} or len(classes) < 2:
        raise UserError(f"data.root={root}: give it a folder per class, or train, val and test of such folders.")
    if bad := [name for name in classes if name != name.encode(errors="replace").decode()]:
        raise UserError(f"data.root={root}: these names of folders are not in UTF-8: {bad}. Rename them.")
    for folder in parts.values():
        names = [found.name for found in images.folders(folder)]
        if not names or set(names) - set(classes):
            wanted = f"its folders have to be classes of the training images, {classes}"
            raise UserError(f"{folder}: {wanted}, and are {names}.")
    return parts, classes
