"""The pictures of a run, as loggers take them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def load_pictures(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Pixels [H, W, 4] by name, such as `curves`; there are none before the run is complete."""
    if not (files := sorted(folder.glob("*.png"))):
        return {}
    from matplotlib.image import imread  # only now: the first step does not wait for it

    return {path.stem: (imread(path) * 255).round().astype(np.uint8) for path in files}
