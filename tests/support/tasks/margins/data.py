"""scikit-learn's handwritten digits as vectors."""

from sklearn.datasets import load_digits
from torch import Tensor, tensor

from ..interface import Batch, Data
from .settings import DataConfig


class Vectors:
    """Every so many of the digits."""

    def __init__(self, first: int, step: int) -> None:
        digits = load_digits()
        self.vectors = tensor(digits.data[first::step] / 16).float()
        self.labels = tensor(digits.target[first::step])
        self.fingerprint = f"digits {first} {step}"

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        return {"vector": self.vectors[indices], "label": self.labels[indices]}


def open_data(cfg: DataConfig) -> Data:
    return Data(Vectors(0, 2), Vectors(1, 4), Vectors(3, 4), {"size": 64, "num_classes": 10}, {})
