"""The pictures of a run that belong to the task, besides its curves."""

from typing import Any

from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay
from torch import Tensor


def draw(sums: dict[str, Tensor], about: dict[str, Any]) -> dict[str, Figure]:
    """Figures by file name, from the sums of the best validation: `confusion`, counts by true and predicted class."""
    classes = [name.replace("$", r"\$").encode(errors="replace").decode() for name in about["classes"]]  # no formulas
    figure = Figure(figsize=(min(3 + 0.4 * len(classes), 60),) * 2, layout="constrained")
    display = ConfusionMatrixDisplay(sums["confusion"].long().numpy(), display_labels=classes)
    shown = {"include_values": len(classes) <= 100, "colorbar": False, "xticks_rotation": "vertical"}
    display.plot(ax=figure.subplots(), cmap="Blues", **shown)
    return {"confusion": figure}
