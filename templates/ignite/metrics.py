"""What is measured while training, and how counts of all processes come together."""

from ignite import distributed as idist
from ignite.engine import Engine
from ignite.metrics import Average, ConfusionMatrix, Loss, MetricsLambda
from torch import Tensor

from . import objective


def mean_loss() -> Average:
    """A mean that stays on the device until it is asked for."""
    return Average(device=idist.device())


def attach_metrics(evaluator: Engine, num_classes: int) -> None:
    """Measure `val/loss`, the scores of `objective.scores`, and the confusion matrix [C, C] itself."""
    confusion = ConfusionMatrix(num_classes, device=idist.device())
    confusion.attach(evaluator, "confusion")
    Loss(objective.loss, device=idist.device()).attach(evaluator, "val/loss")
    MetricsLambda(_named_scores, confusion).attach(evaluator, "scores")


def _named_scores(confusion: Tensor) -> dict[str, float]:
    return {f"val/{name}": score for name, score in objective.scores(confusion).items()}
