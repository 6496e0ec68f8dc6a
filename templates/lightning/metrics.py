"""What is measured while training, and how the counts of all processes come together."""

import torch
from torchmetrics import MeanMetric

from .processes import rank


class MeanLoss(MeanMetric):
    """A mean that stays on the device until it is asked for; the usual check for NaN would wait for it."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")
        self.set_dtype(torch.float64)  # of its sum; in float32 the last digits of a curve would be rounding

    def save(self) -> dict[str, float]:
        """The state of all processes together."""
        with self.sync_context():
            return {"total": self.mean_value.item(), "weight": self.weight.item()}

    def load(self, state: dict[str, float]) -> None:
        """Go on from a state; the first process has it for all."""
        if rank() == 0:
            self.mean_value.fill_(state["total"])
            self.weight.fill_(state["weight"])
