"""Image files of any kind, as bytes."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .errors import LOG, UserError, checked

Shape = tuple[int, int, int]  # channels, height, width
Pixels = NDArray[np.uint8]

SUFFIXES = {".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # of files with these suffixes; no other is decoded
NO_DATA = (".", "__MACOSX", "@eaDir")  # how names begin of what systems and tools leave in folders
WHITE = 255


def read(file: Path | BinaryIO, shape: Shape) -> Pixels:
    """An image file as bytes [C, H, W] of this shape; raises `UserError` for one that cannot be read.

    It is turned upright if its EXIF says how. Of several frames or pages it takes the first, and lays what is
    transparent on white.
    """
    channels, height, width = shape
    try:
        with Image.open(file, formats=FORMATS) as image:
            with suppress(Exception):  # EXIF that cannot be read says nothing
                ImageOps.exif_transpose(image, in_place=True)
            pixels = np.array(_flatten(image).convert("L" if channels == 1 else "RGB").resize((width, height)))
    except Exception as error:  # a file can fail in any of Pillow's ways
        raise UserError(f"{file}: this image cannot be read ({error}). Replace it or set data.skip_bad.") from None
    return np.ascontiguousarray(pixels.reshape(height, width, channels).transpose(2, 0, 1))


def _flatten(image: Image.Image) -> Image.Image:
    """An image of any mode in one of 8 bits, without transparency."""
    if image.mode[0] in "IF":
        tags: Any = getattr(image, "tag_v2", {})  # of a TIFF: Pillow leaves 12 bits, and white as 0, as they are
        numbers = to_bytes(np.asarray(image) * (16 if tags.get(258) == (12,) else 1))
        return Image.fromarray(WHITE - numbers if tags.get(262) == 0 else numbers)
    opaque = not image.has_transparency_data
    return image if opaque else Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


def to_bytes(numbers: NDArray[Any]) -> Pixels:
    """Numbers from black to white as bytes: unsigned ones from 0 to the largest of their type, others in 0..1.

    Raises `ValueError` for all else, of which nothing says what is white.
    """
    white = np.iinfo(numbers.dtype).max if numbers.dtype.kind == "u" else 1
    if numbers.dtype.kind not in "buf" or not 0 <= numbers.min(initial=0) <= numbers.max(initial=0) <= white:
        raise ValueError(f"its {numbers.dtype} are neither unsigned nor in 0..1: nothing says what is white")
    return np.rint(numbers * (WHITE / white)).astype(np.uint8)


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, in order, without what is hidden."""
    with checked(folder, "Let it be read, or leave it out."):
        return sorted(path for path in folder.iterdir() if not path.name.startswith(NO_DATA))


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, in order, without what is hidden."""
    return [path for path in listed(folder) if path.is_dir()]


def walk(folder: Path, *above: Path) -> Iterator[Path]:
    """What lies in a folder and below it. Links are followed, but not to folders that they are in."""
    for path in listed(folder):
        yield path
        if path.is_dir() and not any(one.is_relative_to(path.resolve()) for one in above):
            yield from walk(path, *above, path.resolve())


def find(folder: Path, shape: Shape, skip_bad: bool) -> list[Path]:
    """The image files in a folder and below it, in order; raises `UserError` where there are none.

    With `skip_bad` each of them is read once, and what cannot be is left out, and named in a warning.
    """
    found = [path for path in walk(folder, folder.resolve()) if path.suffix.lower() in SUFFIXES or not path.exists()]
    for dead in (path for path in found if not path.exists() and not skip_bad):
        read(dead, shape)  # which says why it cannot
    bad = [str(path) for path in found if skip_bad and not _is_readable(path, shape)]
    if len(bad) == len(found):
        raise UserError(f"{folder}: this folder has no images that can be read. Add some, or leave it out.")
    if bad:
        LOG.warning("%d of %d images are left out, as they cannot be read: %s", len(bad), len(found), bad)
    return [path for path in found if str(path) not in {*bad}]


def _is_readable(path: Path, shape: Shape) -> bool:
    try:
        return read(path, shape) is not None
    except UserError:
        return False
