"""What is measured while training, and how counts of all processes come together."""

from collections.abc import Mapping
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine
from ignite.metrics import Average, ConfusionMatrix, Loss, MetricsLambda

from . import objective


class MeanLoss(Average):
    """A mean that stays on the device until it is asked for; its state is that of all processes together."""

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        total, weight = idist.all_reduce(self.accumulator.item()), idist.all_reduce(float(self.num_examples))
        return {"total": total, "weight": weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if idist.get_rank() == 0:
            self.accumulator.fill_(state["total"])
            self.num_examples = int(state["weight"])


def attach_metrics(evaluator: Engine, num_classes: int) -> None:
    """Measure `val/loss`, the scores of `objective.scores`, and the confusion matrix [C, C] itself."""
    confusion = ConfusionMatrix(num_classes, device=idist.device())
    confusion.attach(evaluator, "confusion")
    Loss(objective.loss, device=idist.device()).attach(evaluator, "val/loss")
    scores = MetricsLambda(lambda counts: {f"val/{k}": v for k, v in objective.scores(counts).items()}, confusion)
    scores.attach(evaluator, "scores")
