"""Image files of every mode that Pillow reads: a ramp from black to white, or what looks so on white."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 64  # of an image that a project does not scale
RAMP = np.tile(np.arange(SIZE) / (SIZE - 1), (SIZE, 1))  # 0..1
GREY = np.rint(RAMP * 255).astype(np.uint8)
HALF = np.where(RAMP < 0.5, 0, 255).astype(np.uint8)
NO_RANGE = "nothing says what is white"
NO_MODE = "cannot identify image file"


@dataclass(frozen=True)
class Kind:
    """A kind of image file: what Pillow calls its mode, and what is to be read of it."""

    name: str  # of the file
    mode: str
    make: Callable[[], bytes]
    mean: float = 127.5
    low: int = 0
    high: int = 255
    refused: str = ""  # why no numbers are read


def saved(image: Image.Image, suffix: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, Image.registered_extensions()[f".{suffix}"], **options)
    return file.getvalue()


def grey(mode: str = "L") -> Image.Image:
    return Image.fromarray(GREY).convert("RGB").convert(mode) if mode != "L" else Image.fromarray(GREY)


def black(mode: str) -> Image.Image:
    """Black that is less and less opaque; on white it is the ramp."""
    bands = len(mode) - 1
    return Image.merge(mode, [Image.new("L", (SIZE, SIZE))] * bands + [Image.fromarray(255 - GREY)])


def premultiplied(mode: str) -> bytes:
    """A TIFF whose colours are given times their opacity, which leaves black as it is."""
    plain, premultiplied = (struct.pack("<HHII", 338, 3, 1, kind) for kind in (2, 1))
    return saved(black(mode), "tif").replace(plain, premultiplied)


def palette(white: int = 0) -> Image.Image:
    """The ramp as indices of greys, down from white; with `white` 0 all are black."""
    image = Image.fromarray(255 - GREY).convert("P")
    image.putpalette([white * value // 255 for value in range(255, -1, -1) for _ in "RGB"])
    return image


def with_opacity(image: Image.Image) -> Image.Image:
    image.putalpha(Image.fromarray(255 - GREY))
    return image


def key(mode: str) -> Image.Image:
    """Black on the left, the next darkest grey on the right."""
    return Image.fromarray((HALF > 0).astype(np.uint8)).convert(mode)


def png(bits: int, color: int, rows: NDArray[np.uint8]) -> bytes:
    """A PNG of these bits a sample; 0 is grey, 2 is RGB, 4 is grey with its opacity."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", SIZE, SIZE, bits, color, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(pixels: bytes, bits: int, white: int = 1, kind: int = 1) -> bytes:
    """A TIFF of one channel; its white may be 0; its numbers are unsigned (1), signed (2) or floats (3)."""
    tags = {
        256: SIZE,
        257: SIZE,
        258: bits,
        259: 1,
        262: white,
        273: 134,
        277: 1,
        278: SIZE,
        279: len(pixels),
        339: kind,
    }
    entries = b"".join(
        struct.pack("<HHII", tag, 4 if value > 65535 else 3, 1, value) for tag, value in tags.items()
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return (struct.pack("<2sHI", b"II", 42, 8) + directory).ljust(134, b"\0") + pixels


def packed(values: NDArray[np.int64]) -> bytes:
    """Numbers of 12 bits, two in three bytes."""
    first, second = values.reshape(-1, 2).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


def lightness() -> float:
    """The mean of a ramp of L* in sRGB."""
    f = (100 * RAMP + 16) / 116
    linear = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    return float(
        255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear).mean()
    )


def lab() -> Image.Image:
    neutral = Image.new("L", (SIZE, SIZE), 128)
    return Image.merge("LAB", [Image.fromarray(GREY), neutral, neutral])


def frames(suffix: str) -> bytes:
    """The ramp, and white after it."""
    return saved(
        grey(), suffix, save_all=True, append_images=[Image.new("L", (SIZE, SIZE), 255)], lossless=True
    )


def deep(numbers: NDArray[np.float64], kind: str) -> bytes:
    return numbers.astype(kind).tobytes()


WIDE = np.rint(RAMP * 65535)
BIG = Image.frombytes("I;16B", (SIZE, SIZE), deep(WIDE, ">u2"))

KINDS = (
    Kind("1.png", "1", lambda: saved(Image.fromarray(HALF).convert("1"), "png")),
    Kind("1.tif", "1", lambda: saved(Image.fromarray(HALF).convert("1"), "tif")),
    Kind("1.bmp", "1", lambda: saved(Image.fromarray(HALF).convert("1"), "bmp")),
    Kind("L.png", "L", lambda: saved(grey(), "png")),
    Kind("L.jpg", "L", lambda: saved(grey(), "jpg", quality=100)),
    Kind("L.bmp", "L", lambda: saved(grey(), "bmp")),
    Kind("L.tif", "L", lambda: saved(grey(), "tif")),
    Kind(
        "L-2-bits.png",
        "L",
        lambda: png(2, 0, np.tile(np.repeat([0, 85, 170, 255], 4), (SIZE, 1)).astype(np.uint8)),
    ),
    Kind("L-key.png", "L", lambda: saved(key("L"), "png", transparency=0), 128, 1),
    Kind("LA.png", "LA", lambda: saved(black("LA"), "png")),
    Kind("LA.tif", "LA", lambda: saved(black("LA"), "tif")),
    Kind("La.tif", "La", lambda: premultiplied("LA"), refused="conversion from La"),
    Kind(
        "LA-16-bits.png",
        "RGBA",
        lambda: png(
            16,
            4,
            np.frombuffer(deep(np.stack([0 * WIDE, 65535 - WIDE], -1), ">u2"), np.uint8).reshape(SIZE, -1),
        ),
    ),
    Kind("P.png", "P", lambda: saved(palette(255), "png")),
    Kind("P.gif", "P", lambda: saved(palette(255), "gif")),
    Kind("P.tif", "P", lambda: saved(palette(255), "tif")),
    Kind("P.bmp", "P", lambda: saved(palette(255), "bmp")),
    Kind("P-opacities.png", "P", lambda: saved(palette(), "png", transparency=bytes(range(256)))),
    Kind("P-key.png", "P", lambda: saved(key("L").convert("P"), "png", transparency=0), 128, 1),
    Kind("P-key.gif", "P", lambda: saved(key("L").convert("P"), "gif", transparency=0), 128, 1),
    Kind("PA.tif", "PA", lambda: saved(with_opacity(palette()), "tif")),
    Kind("RGB.png", "RGB", lambda: saved(grey("RGB"), "png")),
    Kind("RGB.jpg", "RGB", lambda: saved(grey("RGB"), "jpg", quality=100)),
    Kind("RGB.bmp", "RGB", lambda: saved(grey("RGB"), "bmp")),
    Kind("RGB.tif", "RGB", lambda: saved(grey("RGB"), "tif")),
    Kind("RGB.webp", "RGB", lambda: saved(grey("RGB"), "webp", lossless=True)),
    Kind(
        "RGB-16-bits.png",
        "RGB",
        lambda: png(16, 2, np.frombuffer(deep(np.repeat(WIDE, 3, 1), ">u2"), np.uint8).reshape(SIZE, -1)),
    ),
    Kind("RGB-key.png", "RGB", lambda: saved(key("RGB"), "png", transparency=(0, 0, 0)), 128, 1),
    Kind("RGBA.png", "RGBA", lambda: saved(black("RGBA"), "png")),
    Kind("RGBA.tif", "RGBA", lambda: saved(black("RGBA"), "tif")),
    Kind("RGBA.webp", "RGBA", lambda: saved(black("RGBA"), "webp", lossless=True)),
    Kind("RGBa.tif", "RGBA", lambda: premultiplied("RGBA")),
    Kind("RGBX.tif", "RGB", lambda: saved(grey("RGBX"), "tif")),
    Kind("CMYK.jpg", "CMYK", lambda: saved(grey("CMYK"), "jpg", quality=100)),
    Kind("CMYK.tif", "CMYK", lambda: saved(grey("CMYK"), "tif")),
    Kind("YCbCr.tif", "YCbCr", lambda: saved(grey("YCbCr"), "tif")),
    Kind("LAB.tif", "LAB", lambda: saved(lab(), "tif"), lightness()),
    Kind("I;16.png", "I;16", lambda: saved(Image.fromarray(WIDE.astype(np.uint16)), "png")),
    Kind("I;16.tif", "I;16", lambda: saved(Image.fromarray(WIDE.astype(np.uint16)), "tif")),
    Kind("I;16-white-is-0.tif", "I;16", lambda: tiff(deep(65535 - WIDE, "<u2"), 16, white=0)),
    Kind("I;16-12-bits.tif", "I;16", lambda: tiff(packed(np.rint(RAMP * 4095).astype(np.int64)), 12)),
    Kind("I;16B.tif", "I;16B", lambda: saved(BIG, "tif")),
    Kind("I-16-bits-signed.tif", "I", lambda: tiff(deep(RAMP * 255, "<i2"), 16, kind=2), refused=NO_RANGE),
    Kind("I-32-bits-signed.tif", "I", lambda: tiff(deep(RAMP * 255, "<i4"), 32, kind=2), refused=NO_RANGE),
    Kind("I-32-bits.tif", "I", lambda: tiff(deep(RAMP * (2**32 - 1), "<u4"), 32), refused=NO_RANGE),
    Kind("F.tif", "F", lambda: saved(Image.fromarray(RAMP.astype(np.float32)), "tif")),
    Kind("F-white-is-0.tif", "F", lambda: tiff(deep(1 - RAMP, "<f4"), 32, white=0, kind=3)),
    Kind("F-to-255.tif", "F", lambda: tiff(deep(RAMP * 255, "<f4"), 32, kind=3), refused=NO_RANGE),
    Kind(
        "F-no-number.tif",
        "F",
        lambda: tiff(deep(np.where(RAMP > 0, RAMP, np.nan), "<f4"), 32, kind=3),
        refused=NO_RANGE,
    ),
    Kind("F-64-bits.tif", "", lambda: tiff(deep(RAMP, "<f8"), 64, kind=3), refused=NO_MODE),
    Kind("frames.gif", "P", lambda: frames("gif")),
    Kind("frames.png", "L", lambda: frames("png")),
    Kind("frames.webp", "RGB", lambda: frames("webp")),
    Kind("pages.tif", "L", lambda: frames("tif")),
)
