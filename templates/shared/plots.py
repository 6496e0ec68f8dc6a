"""The pictures of a run: its curves, and which classes it confuses."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay


def draw_curves(rows: Iterable[list[str]], path: Path) -> None:
    """Draw rows of `metrics.csv` over optimizer steps: losses on the left, validation scores on the right."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for step, _, name, value in rows:
        if name != "lr":
            curves.setdefault(name, []).append((int(step), float(value)))

    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name, points in curves.items():
        (losses if name.endswith("loss") else scores).plot(*zip(*points, strict=True), label=name)
    losses.set(title="Loss", xlabel="optimizer step", yscale="log")
    scores.set(title="Validation", xlabel="optimizer step")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def draw_confusion(confusion: list[list[int]], classes: list[str], path: Path) -> None:
    """Draw counts of validation images by true and predicted class."""
    figure = Figure(figsize=(3 + 0.4 * len(classes),) * 2, layout="constrained")
    display = ConfusionMatrixDisplay(np.array(confusion), display_labels=classes)
    display.plot(ax=figure.subplots(), cmap="Blues", colorbar=False, xticks_rotation="vertical")
    figure.savefig(path, dpi=120)
