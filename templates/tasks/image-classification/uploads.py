"""Images that strangers send: as arrays, or as files of a bounded size."""

import base64
import io
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import Field

from . import images

SCANS = 20  # of a JPEG, each of which takes time for all of its pixels; it has half as many, or fewer
WIDTH, LENGTH = 322, 323  # TIFF's tags for the size of a tile, which may be larger than the image

Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


def decode(value: Any, shape: images.Shape, budget: int) -> tuple[images.Pixels, int]:
    """The pixels of an array, or of a file's content, and the bytes that decoding took; raises where there are none.

    A file that needs more than `budget` is not decoded.
    """
    if isinstance(value, list):
        return np.array(value, np.uint8), 0
    content = base64.b64decode(value, validate=True) if isinstance(value, str) else value
    if (size := decoded_bytes(content)) > budget:
        raise ValueError(f"{size} bytes are needed, and {budget} are left")
    return images.read(io.BytesIO(content), shape), size


def decoded_bytes(content: bytes) -> int:
    """How many bytes decoding a file takes, as it says itself; raises what Pillow does."""
    rounds = content.count(b"\xff\xda") // SCANS if content.startswith(b"\xff\xd8") else 0
    with Image.open(io.BytesIO(content), formats=images.FORMATS) as image:
        tags: Any = getattr(image, "tag_v2", {})
        return 4 * int(max(image.width * image.height * (1 + rounds), tags.get(WIDTH, 0) * tags.get(LENGTH, 0)))
