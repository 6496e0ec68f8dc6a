"""Masks: images whose pixels are class numbers, in files that have the names of their images."""

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from . import images, splits
from .errors import LOG, UserError, checked

Mask = NDArray[np.uint8]  # class numbers [H, W]

IGNORED = 255  # of a pixel that belongs to no class: it is neither learnt nor measured
MODES = {"1", "I", "I;16", "I;16B", "L", "P"}  # in which pixels are numbers: palettes, and grey of 1 to 32 bits
CLASSES = "classes.txt"


class Pair(NamedTuple):
    """The files of an image and of its mask."""

    image: Path
    mask: Path


def read_classes(root: Path) -> list[str]:
    """The names in `classes.txt`, a line for each class number from 0 on."""
    if not root.is_dir():
        raise UserError(f"data.root={root}: there is no such folder.")
    path = root / CLASSES
    with checked(path, "Put the name of a class into each line; the first is number 0 in masks."):
        classes = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not 2 <= len(classes) <= IGNORED or len(classes) > len({*classes}):
        raise UserError(f"{path}: give 2 to {IGNORED} classes, each a line of its own, and none twice.")
    return classes


def find_splits(
    root: Path, shape: images.Shape, num_classes: int, skip_bad: bool, fold: int, folds: int
) -> list[list[Pair]]:
    """The pairs of train, val and test: see `splits.split`."""
    folders = {name: root / name for name in ("train", "val", "test") if (root / name).is_dir()}
    pairs, names, given = list[Pair](), list[str](), dict[str, splits.Indices]()
    for name, folder in (folders if "train" in folders else {"train": root}).items():
        own = find(folder, shape, num_classes, skip_bad)
        given[name] = np.arange(len(pairs), len(pairs) + len(own))
        names += [pair.image.relative_to(folder / "images").with_suffix("").as_posix() for pair in own]
        pairs += own
    return [[pairs[i] for i in part] for part in splits.split(names, fold, folds, given)]


def find(folder: Path, shape: images.Shape, num_classes: int, skip_bad: bool) -> list[Pair]:
    """The pairs in `images/` and `masks/` of a folder, in the order of their names, which are equal but for suffixes.

    With `skip_bad` each pair is read once, and what cannot be used is left out, and named in a warning.
    """
    pictures, masks = _by_name(folder / "images"), _by_name(folder / "masks")
    alone = sorted((pictures | masks)[name] for name in pictures.keys() ^ masks.keys())
    if alone and not skip_bad:
        others = f", and nor have {len(alone) - 1} others" if len(alone) > 1 else ""
        missing = "in images/ and masks/. Add what is missing, or set data.skip_bad"
        raise UserError(f"{alone[0]}: it has no partner of the same name{others}: each file needs one {missing}.")
    pairs = [Pair(pictures[name], masks[name]) for name in pictures if name in masks]
    bad = [pair.image for pair in pairs if skip_bad and not _is_usable(pair, shape, num_classes)]
    if left_out := [str(path) for path in (*bad, *alone)]:
        LOG.warning("%d pairs are left out, as they cannot be used: %s", len(left_out), left_out)
    pairs = [pair for pair in pairs if pair.image not in {*bad}]
    if len(pairs) < 2:
        raise UserError(f"{folder}: {len(pairs)} images with a mask are too few. Add some to images/ and masks/.")
    return pairs


def _by_name(folder: Path) -> dict[str, Path]:
    """The image files in a folder and below it by their names, without suffixes."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder. Images belong into images/, their masks into masks/.")
    found = dict[str, Path]()
    for path in images.walk(folder, folder.resolve()):
        if path.suffix.lower() in images.SUFFIXES:
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise UserError(f"{path}: {found[name].name} has the same name but for its suffix. Rename one of them.")
            found[name] = path
    return found


def _is_usable(pair: Pair, shape: images.Shape, num_classes: int) -> bool:
    try:
        return read_pair(pair, shape, num_classes) is not None
    except UserError:
        return False


def read_pair(pair: Pair, shape: images.Shape, num_classes: int) -> tuple[images.Pixels, Mask]:
    """An image as bytes of this shape, and its mask, scaled alike; raises `UserError` for what cannot be used."""
    pixels, mask = images.read(pair.image, shape), read(pair.mask, num_classes)
    width, height = _size(pair.image)
    if mask.shape != (height, width):
        sizes = f"{mask.shape[1]}x{mask.shape[0]} pixels, and its image {pair.image} has {width}x{height}"
        raise UserError(f"{pair.mask}: this mask has {sizes}. Give one of the same size, or set data.skip_bad.")
    scaled = Image.fromarray(mask).resize((shape[2], shape[1]), Image.Resampling.NEAREST)
    return pixels, np.asarray(scaled)


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an image, turned upright as `images.read` does."""
    with Image.open(path, formats=images.FORMATS) as image:
        with suppress(Exception):  # EXIF that cannot be read says nothing
            if image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9):
                return image.height, image.width
        return image.size


def read(path: Path, num_classes: int) -> Mask:
    """The class numbers in a file; raises `UserError` for one that holds anything else."""
    try:
        with Image.open(path, formats=images.FORMATS) as image:
            mode, numbers = image.mode, np.asarray(image)
        wrong = "" if mode in MODES else f"its pixels are colors, {mode}, and no numbers"
    except Exception as error:  # a file can fail in any of Pillow's ways
        wrong = str(error)
    if not wrong and (unknown := {*np.unique(numbers).tolist()} - {*range(num_classes), IGNORED}):
        known = f"there are 0 to {num_classes - 1}, and {IGNORED} for pixels of none"
        wrong = f"{sorted(unknown)[:5]} are no classes: {known}"
    if wrong:
        raise UserError(f"{path}: this mask cannot be used ({wrong}). Replace it or set data.skip_bad.")
    return numbers.astype(np.uint8)


def check_classes(pairs: list[Pair], classes: list[str]) -> None:
    """See whether each class occurs in a mask. Only as many are read as it takes to find them all."""
    missing, seen = {*range(len(classes))}, set[int]()
    for number in np.random.default_rng(0).permutation(len(pairs)):
        seen |= {*np.flatnonzero(np.bincount(read(pairs[number].mask, len(classes)).flatten())).tolist()}
        if seen >= missing:
            return
    names = [f"{number} ({classes[number]})" for number in sorted(missing - seen)]
    values = f"there are {sorted(seen)} in {len(pairs)} masks, and {IGNORED} stands for none"
    folder = pairs[0].mask.parent
    raise UserError(f"{folder}: class {', '.join(names)} never occurs: {values}. Correct the masks, or {CLASSES}.")


def _colors() -> Iterator[list[int]]:
    """A color for each class, those of Pascal VOC: 0 is black, and neighbours differ much."""
    for number in range(256):
        bits = [[number >> 3 * place + channel & 1 for place in range(3)] for channel in range(3)]
        yield [sum(bit << 7 - place for place, bit in enumerate(channel)) for channel in bits]


COLORS = np.array([*_colors()], np.uint8)  # [256, 3]


def encode(mask: Mask) -> bytes:
    """A mask as a PNG file: a palette, whose numbers are those of the classes."""
    image, file = Image.fromarray(mask), io.BytesIO()
    image.putpalette(COLORS.tobytes())
    image.save(file, "PNG")
    return file.getvalue()


def overlay(pixels: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    """An image [C, H, W] in the colors of a mask [H, W], as pixels [H, W, 3]; class 0 and what is ignored stay."""
    image = np.broadcast_to(pixels.transpose(1, 2, 0), (*mask.shape, 3))
    bright = np.minimum(2.0 * COLORS[mask], images.WHITE)
    left = ((mask == 0) | (mask == IGNORED))[..., None]
    return np.where(left, image, 0.4 * image + 0.6 * bright).astype(np.uint8)
