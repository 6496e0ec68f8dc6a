"""What the model is trained to do, and how well it does it."""

from torch import Tensor
from torch.nn.functional import cross_entropy

MONITOR = "val/accuracy"  # the score that best.pt, early stopping and a search go by; larger is better


def loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of logits [B, C] and labels [B], in float32 whatever the step computes in."""
    return cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)


def scores(confusion: Tensor) -> dict[str, float]:
    """Accuracy and macro F1 of a confusion matrix [C, C] of counts, true classes in rows.

    Both frameworks count alike, so their scores are equal. A class that was neither present nor predicted
    has no F1 and is left out of the mean, as in torchmetrics' `MulticlassF1Score`.
    """
    counts = confusion.double().cpu()
    hits, total = counts.diag(), counts.sum()
    present = counts.sum(0) + counts.sum(1)
    f1 = 2 * hits[present > 0] / present[present > 0]
    return {"accuracy": (hits.sum() / total).item(), "f1": f1.mean().item()}


def probabilities(logits: Tensor) -> Tensor:
    """The probability of each class [B, C]."""
    return logits.float().softmax(dim=1)
