"""The images and their loaders: scikit-learn's handwritten digits, or a folder of images per class."""

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from . import seeding, signals
from .config import LOG, Config, DataConfig, UserError
from .processes import rank, world_size
from .progress import Progress

Batch = tuple[Tensor, Tensor]  # images [B, C, H, W] in 0..1 and labels [B]
Share = tuple[list[int], list[list[float]]]  # of a step: indices [B] and moves [B, 2]
Shape = tuple[int, int, int]
Loaders = tuple[DataLoader[Batch], DataLoader[Batch]]  # to train on, to validate with

FOLDER_SHAPE: Shape = (3, 64, 64)  # images of a folder are read as RGB and scaled to this size
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # of files with these suffixes; no other is decoded
NO_DATA = (".", "__MACOSX", "@eaDir")  # how names begin of what systems and tools leave in folders
SPLITS = {"train", "val", "test", "training", "valid", "validation", "testing"}  # folders that are no classes
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

    It begins where the run is. The order is f(seed, epoch), whatever the number of processes: step after step they
    share out the next `batch_size * world_size` samples. The few that are left at the end of an epoch are skipped. The
    moves are f(seed, epoch, index), so they do not depend on the worker that moves an image.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __len__(self) -> int:
        return self.progress.num_batches

    def __iter__(self) -> Iterator[Share]:
        at, seed = self.progress, self.progress.cfg.seed
        order = torch.randperm(at.num_samples, generator=seeding.generator(seed, at.epoch))
        moves = 2 * torch.rand(at.num_samples, 2, generator=seeding.generator(seed, at.epoch, 1)) - 1
        left = order[at.samples :][: at.batches_left * at.taken].view(at.batches_left, world_size(), -1)
        return ((own.tolist(), moves[own].tolist()) for own in left[:, rank()])


class Images(NamedTuple):
    """The three splits, each with the same share of every class."""

    train: Split
    val: Split
    test: Split
    classes: list[str]
    shape: Shape


def load_images(cfg: DataConfig) -> Images:
    """Read all images and split them; raises `UserError` for a folder that cannot be trained on.

    A split that the folder does not have is taken out of the training images.
    """
    splits, classes, shape = _read_digits() if cfg.root is None else _read_folder(cfg.root, cfg.skip_bad)
    for name in [name for name in ("test", "val") if name not in splits]:
        images, labels = splits["train"].tensors
        try:
            parts = train_test_split(range(len(labels)), stratify=labels, test_size=HELD_OUT, random_state=SPLIT_SEED)
        except ValueError:
            count, label = labels.bincount().min(dim=0)
            few = f"{classes[label]}, which has the fewest, has {count} left. Add some, or leave that class out"
            raise UserError(f"data.root={cfg.root}: too few images for a {name} split. {few}.") from None
        splits["train"], splits[name] = (Split(images[part], labels[part]) for part in parts)
    return Images(**splits, classes=classes, shape=shape)


def load_image(path: Path | BinaryIO, shape: Shape) -> Tensor:
    """Read an image file as bytes [C, H, W] of this shape; one that cannot be read is named in a `UserError`.

    Of several frames or pages it takes the first, and lays what is transparent on white.
    """
    channels, height, width = shape
    try:
        with Image.open(path, formats=FORMATS) as image:
            pixels = np.array(_flatten(image).convert("L" if channels == 1 else "RGB").resize((width, height)))
    except Exception as error:  # a file can fail in any of Pillow's ways
        raise UserError(f"{path}: this image cannot be read ({error}). Replace it or set data.skip_bad.") from None
    return torch.from_numpy(pixels).reshape(height, width, channels).permute(2, 0, 1)


def _flatten(image: Image.Image) -> Image.Image:
    """An image of any mode in one of 8 bits, without transparency."""
    if image.mode[0] in "IF":
        tags: Any = getattr(image, "tag_v2", {})  # of a TIFF: Pillow leaves 12 bits, and white as 0, as they are
        numbers = to_bytes(np.asarray(image) * (16 if tags.get(258) == (12,) else 1))
        return Image.fromarray(WHITE - numbers if tags.get(262) == 0 else numbers)
    opaque = not image.has_transparency_data
    return image if opaque else Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


def to_bytes(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers from black to white as bytes: unsigned ones from 0 to the largest of their type, others in 0..1.

    Raises `ValueError` for all else, of which nothing says what is white.
    """
    white = np.iinfo(numbers.dtype).max if numbers.dtype.kind == "u" else 1
    if numbers.dtype.kind not in "buf" or not 0 <= numbers.min(initial=0) <= numbers.max(initial=0) <= white:
        raise ValueError(f"its {numbers.dtype} are neither unsigned nor in 0..1: nothing says what is white")
    return np.rint(numbers * (WHITE / white)).astype(np.uint8)


def load_folder(folder: Path, shape: Shape, skip_bad: bool) -> Iterator[tuple[Path, Tensor]]:
    """The images in a folder and in those below it, in order; raises `UserError` where there are none.

    One that cannot be read is an error too, or with `skip_bad` left out and counted.
    """
    found = [path for path in _list(folder, "**/*") if path.suffix.lower() in SUFFIXES]
    bad = dict.fromkeys(found)
    for path in found:
        with suppress(*[UserError] * skip_bad):  # or nothing
            yield path, load_image(path, shape)
            del bad[path]
    if len(bad) == len(found):
        raise UserError(f"{folder}: this folder has no images that can be read. Add some, or leave it out.")
    if bad and rank() == 0:
        LOG.warning("%d of %d images are left out, as they cannot be read: %s", len(bad), len(found), [*map(str, bad)])


def _list(folder: Path, pattern: str) -> list[Path]:
    """What lies in a folder, in order, but for what is hidden."""
    found = sorted(folder.glob(pattern))
    return [path for path in found if not any(part.startswith(NO_DATA) for part in path.relative_to(folder).parts)]


def build_loaders(images: Images, cfg: Config, progress: Progress) -> Loaders:
    """The loaders to train on, from where the run is, and to validate with.

    Images that take less than a quarter of the GPU's free memory are kept there, unless workers load them.
    """
    tensors = [*images.train.tensors, *images.val.tensors]
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() and cfg.data.num_workers == 0 else 0
    if 4 * sum(tensor.nbytes for tensor in tensors) < free:
        tensors = [tensor.cuda() for tensor in tensors]
    train = _build_loader(Augmented(*tensors[:2]), TrainBatches(progress), cfg)
    return train, build_eval_loader(Split(*tensors[2:]), cfg)


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
    options |= {"num_workers": cfg.data.num_workers, "worker_init_fn": signals.begin_loader}
    return DataLoader(dataset, batch_size=None, sampler=batches, **options)  # an item is a batch already


def _read_digits() -> tuple[dict[str, Split], list[str], Shape]:
    digits = load_digits()  # 1,797 images of 8x8 pixels in 0..16: UCI ML hand-written digits
    images = torch.tensor(digits.images * (WHITE / 16)).byte().unsqueeze(1)
    return {"train": Split(images, torch.tensor(digits.target))}, [str(name) for name in digits.target_names], (1, 8, 8)


def _read_folder(root: Path, skip_bad: bool) -> tuple[dict[str, Split], list[str], Shape]:
    """The splits that a folder has, and the classes; one without splits is all for training."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: there is no such folder.")
    parts = {folder.name: folder for folder in _list(root, "*/")}
    if not {name.lower() for name in parts} <= SPLITS:
        parts = {"train": root}
    classes = sorted(folder.name for folder in _list(parts.get("train", root), "*/"))
    if not {"train"} <= parts.keys() <= {"train", "val", "test"} or len(classes) < 2:
        raise UserError(f"data.root={root}: give it a folder per class, or train, val and test of such folders.")
    if bad := [name for name in classes if name != name.encode(errors="replace").decode()]:
        raise UserError(f"data.root={root}: these names of folders are not in UTF-8: {bad}. Rename them.")
    return {name: _read_split(folder, classes, skip_bad) for name, folder in parts.items()}, classes, FOLDER_SHAPE


def _read_split(root: Path, classes: list[str], skip_bad: bool) -> Split:
    names = [folder.name for folder in _list(root, "*/")]
    if not names or set(names) - set(classes):
        raise UserError(f"{root}: its folders have to be classes of the training images, {classes}, and are {names}.")
    images = {name: [image for _, image in load_folder(root / name, FOLDER_SHAPE, skip_bad)] for name in names}
    labels = [classes.index(name) for name in names for _ in images[name]]
    return Split(torch.stack([image for name in names for image in images[name]]), torch.tensor(labels))
