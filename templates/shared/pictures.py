"""The pictures of a run, as loggers take them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def load_pictures(out_dir: Path) -> dict[str, NDArray[np.uint8]]:
    """Pixels [H, W, 4] by name: `curves` and `confusion`, once the run is complete."""
    pictures = {}
    for path in sorted(out_dir.glob("*.png")):
        with Image.open(path) as image:
            pictures[path.stem] = np.asarray(image)
    return pictures
