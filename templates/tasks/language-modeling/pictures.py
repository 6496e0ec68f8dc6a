"""The pictures of a run that belong to the task, besides its curves."""

from typing import Any

from matplotlib.figure import Figure
from torch import Tensor


def draw(sums: dict[str, Tensor], about: dict[str, Any]) -> dict[str, Figure]:
    """Figures by file name, from the sums of the best validation: `positions`, the loss by place in the window."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot((sums["nll"] / sums["tokens"]).numpy())
    axes.set(xlabel="tokens before", ylabel="loss per token", title="What the model gains from what it has seen")
    return {"positions": figure}
