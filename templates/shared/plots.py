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
        (losses if name.endswith("loss") else scores).plot(*zip(*points, strict=True), label=as_text(name))
    for axes, title, scale in ((losses, "Loss", "log"), (scores, "Validation", "linear")):
        axes.set(title=title, xlabel="optimizer step", yscale=scale)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def as_text(name: str) -> str:
    """A name as Matplotlib shows it: dollars are no formulas, and what is no text is a question mark."""
    return name.replace("$", r"\$").encode(errors="replace").decode()


def draw_confusion(confusion: list[list[int]], classes: list[str], path: Path) -> None:
    """Draw counts of validation images by true and predicted class."""
    figure = Figure(figsize=(min(3 + 0.4 * len(classes), 60),) * 2, layout="constrained")
    display = ConfusionMatrixDisplay(np.array(confusion), display_labels=list(map(as_text, classes)))
    shown = {"include_values": len(classes) <= 100, "colorbar": False, "xticks_rotation": "vertical"}
    display.plot(ax=figure.subplots(), cmap="Blues", **shown)
    figure.savefig(path, dpi=120)
