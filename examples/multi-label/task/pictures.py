"""The pictures of a run that belong to the task, besides its curves."""

from typing import Any

from matplotlib.figure import Figure
from torch import Tensor


def draw(sums: dict[str, Tensor], about: dict[str, Any]) -> dict[str, Figure]:
    """Figures by file name, from the sums of the best validation: `labels`, how often each is true and predicted."""
    names = [name.replace("$", r"\$").encode(errors="replace").decode() for name in about["classes"]]  # no formulas
    figure = Figure(figsize=(6, min(2 + 0.4 * len(names), 60)), layout="constrained")
    axes = figure.subplots()
    for place, (word, key) in enumerate({"true": "true", "predicted": "predicted", "both": "hits"}.items()):
        axes.barh([i + 0.25 * place for i in range(len(names))], sums[key].numpy(), height=0.25, label=word)
    axes.set_yticks([i + 0.25 for i in range(len(names))], names)
    axes.legend()
    return {"labels": figure}
