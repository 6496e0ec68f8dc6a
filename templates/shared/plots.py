"""The pictures of a run: its curves, and which classes it confuses."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay


def draw_curves(rows: list[list[str]], path: Path) -> None:
    """Draw rows of `metrics.csv` over optimizer steps: losses on the left, validation scores on the right."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in dict.fromkeys(name for _, _, name, _ in rows if name != "lr"):
        points = [(int(step), float(value)) for step, _, given, value in rows if given == name]
        (losses if name.endswith("loss") else scores).plot(*zip(*points, strict=True), label=name)
    for axes, title, scale in ((losses, "Loss", "log"), (scores, "Validation", "linear")):
        axes.set(title=title, xlabel="optimizer step", yscale=scale)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def draw_confusion(confusion: list[list[int]], classes: list[str], path: Path) -> None:
    """Draw counts of validation images by true and predicted class."""
    figure = Figure(figsize=(3 + 0.4 * len(classes),) * 2, layout="constrained")
    display = ConfusionMatrixDisplay(np.array(confusion), display_labels=[name.replace("$", r"\$") for name in classes])
    display.plot(ax=figure.subplots(), cmap="Blues", colorbar=False, xticks_rotation="vertical")
    figure.savefig(path, dpi=120)
