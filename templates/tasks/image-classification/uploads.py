"""Images in requests: as arrays, or as files of a bounded size."""

import base64
import io
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import Field

from . import images

SCANS = 20  # of a progressive JPEG, which usually has ten or fewer; each goes over all pixels again
WIDTH, LENGTH = 322, 323  # TIFF's tags for the size of a tile, which may be larger than the image

Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


def decode(value: Any, shape: images.Shape, budget: int) -> tuple[images.Pixels, int]:
    """The pixels of an array or of a file's content, and how many bytes decoding took.

    Raises for what is no image, and before it decodes a file that needs more than `budget` bytes.
    """
    if isinstance(value, list):
        return np.array(value, np.uint8), 0
    content = base64.b64decode(value, validate=True) if isinstance(value, str) else value
    if (size := decoded_bytes(content)) > budget:
        raise ValueError(f"{size} bytes are needed, and {budget} are left")
    return images.read(io.BytesIO(content), shape), size


def decoded_bytes(content: bytes) -> int:
    """How many bytes decoding a file takes, by its headers; raises what Pillow does."""
    rounds = content.count(b"\xff\xda") // SCANS if content.startswith(b"\xff\xd8") else 0
    with Image.open(io.BytesIO(content), formats=images.FORMATS) as image:
        tags: Any = getattr(image, "tag_v2", {})
        return 4 * int(max(image.width * image.height * (1 + rounds), tags.get(WIDTH, 0) * tags.get(LENGTH, 0)))
