"""The pictures of a run that belong to the task, besides its curves."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from .. import masks


def draw(sums: dict[str, Tensor], about: dict[str, Any]) -> dict[str, Figure]:
    """Figures by file name, from the sums of the best validation: `overlays` and `iou`."""
    classes = [name.replace("$", r"\$").encode(errors="replace").decode() for name in about["classes"]]  # no formulas
    return {"overlays": draw_overlays(sums["shown"]), "iou": draw_iou(sums["confusion"], classes)}


def draw_overlays(shown: Tensor) -> Figure:
    """Some images, with their masks, and with those that are predicted."""
    samples = [sample for sample in shown.clamp(0, 255).byte().numpy() if sample.any()]
    figure = Figure(figsize=(6, 2 * len(samples) + 0.5), layout="constrained")
    for row, sample in zip(figure.subplots(len(samples), 3, squeeze=False), samples, strict=True):
        truth, given = sample[-2:]
        pictures = [masks.overlay(sample[:-2], mask) for mask in (np.zeros_like(truth), truth, given)]
        for axes, picture, title in zip(row, pictures, ("image", "truth", "prediction"), strict=True):
            axes.imshow(picture)
            axes.set(title=title, xticks=[], yticks=[])
    return figure


def draw_iou(counts: Tensor, classes: list[str]) -> Figure:
    """The IoU of each class, in the color that it has in masks; of one that does not occur, nothing."""
    hits = counts.diag()
    iou = (hits / (counts.sum(0) + counts.sum(1) - hits)).nan_to_num().tolist()
    figure = Figure(figsize=(6, 1.2 + 0.3 * len(classes)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(classes)), iou, color=masks.COLORS[: len(classes)] / 255)
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.set(title="IoU", xlim=(0, 1.15), yticks=range(len(classes)), yticklabels=classes)
    axes.invert_yaxis()
    return figure
