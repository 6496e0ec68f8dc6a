"""The pictures of a run that belong to the task, besides its curves."""

from typing import Any

from matplotlib.figure import Figure
from torch import Tensor


def draw(sums: dict[str, Tensor], about: dict[str, Any]) -> dict[str, Figure]:
    """Figures by file name, from the sums of the best validation: `predictions`, counts by true and predicted value."""
    counts, figure = sums["counts"].numpy(), Figure(figsize=(6, 6), layout="constrained")
    axes, shown = figure.subplots(), dict[str, Any]()
    if "classes" in about:
        names = [name.replace("$", r"\$").encode(errors="replace").decode() for name in about["classes"]]  # no formulas
        places = range(len(names))
        axes.set_xticks(places, names, rotation="vertical")
        axes.set_yticks(places, names)
    else:
        low, high = about["range"]
        shown = {"extent": (low, high, high, low)}
        axes.plot((low, high), (low, high), color="gray", linewidth=1)
    axes.imshow(counts, cmap="Blues", **shown)
    axes.set(xlabel=f"predicted {about['target']}", ylabel=f"true {about['target']}")
    return {"predictions": figure}
