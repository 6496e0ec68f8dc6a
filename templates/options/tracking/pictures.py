"""The pictures of a run, as loggers take them."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread
from numpy.typing import NDArray


def load_pictures(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Pixels [H, W, 4] by name, such as `curves`; there are none before the run is complete."""
    files = sorted(folder.glob("*.png"))
    return {path.stem: (imread(path) * 255).round().astype(np.uint8) for path in files}
