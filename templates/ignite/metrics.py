"""What is measured while training, and how counts of all processes come together."""

from ignite import distributed as idist
from ignite.engine import Engine
from ignite.metrics import ConfusionMatrix, Loss, MetricsLambda
from torch import Tensor

from . import objective


class MeanLoss:
    """The mean of losses of all processes, which stay on the device until it is read.

    Ignite's `Average` would add each up in its step, which takes a noticeable part of a small one.
    """

    def __init__(self) -> None:
        self.total, self.weight, self.losses = 0.0, 0.0, list[Tensor]()  # the sum so far, and what is not in it yet

    def read(self) -> float:
        """The mean of those since the last time; all processes ask."""
        state = self.state_dict()
        self.total = self.weight = 0.0
        return state["total"] / state["weight"]

    def state_dict(self) -> dict[str, float]:
        """The state of all processes together."""
        for loss in self.losses:
            self.total += loss.item()
        self.weight += len(self.losses)
        self.losses.clear()
        return {"total": float(idist.all_reduce(self.total)), "weight": float(idist.all_reduce(self.weight))}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a state; the first process has it for all."""
        if idist.get_rank() == 0:
            self.total, self.weight = state["total"], state["weight"]


def attach_metrics(evaluator: Engine, num_classes: int) -> None:
    """Measure `val/loss`, the scores of `objective.scores`, and the confusion matrix [C, C] itself."""
    confusion = ConfusionMatrix(num_classes, device=idist.device())
    confusion.attach(evaluator, "confusion")
    Loss(objective.loss, device=idist.device()).attach(evaluator, "val/loss")
    scores = MetricsLambda(lambda counts: {f"val/{k}": v for k, v in objective.scores(counts).items()}, confusion)
    scores.attach(evaluator, "scores")
