"""The pictures of a run that belong to the task, besides its curves."""

from typing import Any

from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import pad

from ..generated import CLASSES, SHOWN


def draw(sums: dict[str, Tensor], about: dict[str, Any]) -> dict[str, Figure]:
    """Figures by file name, from the sums of the best validation: `samples`, a row of images for each class."""
    classes = [name.replace("$", r"\$").encode(errors="replace").decode() for name in about["classes"][:CLASSES]]
    images = pad(sums["shown"].clamp(0, 1), (0, 1, 0, 1), value=1.0)[: len(classes) * SHOWN]  # [cells, C, H, W]
    _, channels, height, width = images.shape
    rows = images.view(len(classes), SHOWN, channels, height, width).permute(0, 3, 1, 4, 2)
    figure = Figure(figsize=(SHOWN * 0.6 + 1.5, len(classes) * 0.6 * height / width + 0.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(rows.reshape(len(classes) * height, SHOWN * width, channels).numpy(), cmap="gray", vmin=0, vmax=1)
    places = [height * (row + 0.5) - 1 for row in range(len(classes))]
    axes.set(xticks=[], yticks=places, yticklabels=classes)
    return {"samples": figure}
