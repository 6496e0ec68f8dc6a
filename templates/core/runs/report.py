"""The pictures of a run: its curves, and those of the task."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ..task import pictures
from . import files
from .metrics import MetricsFile


def draw(folder: Path, best: dict[str, Any]) -> None:
    """Save `curves.png`, and the pictures that the task draws of its best validation."""
    sums = torch.load(folder / "sums.pt", map_location="cpu", weights_only=True)
    figures = {"curves": draw_curves(MetricsFile(folder).read())} | pictures.draw(sums, best["about"])
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        files.insist(path, partial(figure.savefig, path, dpi=120))


def draw_curves(rows: list[list[str]]) -> Figure:
    """Rows of `metrics.csv` over optimizer steps: losses on the left, other validation scores on the right."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in dict.fromkeys(name for _, _, name, _ in rows if name != "lr"):
        points = [(int(step), float(value)) for step, _, given, value in rows if given == name]
        (losses if name.endswith("loss") else scores).plot(*zip(*points, strict=True), label=name)
    for axes, title, scale in ((losses, "Loss", "log"), (scores, "Validation", "linear")):
        axes.set(title=title, xlabel="optimizer step", yscale=scale)
        axes.grid(alpha=0.3)
        if axes.has_data():
            axes.legend()
    return figure
