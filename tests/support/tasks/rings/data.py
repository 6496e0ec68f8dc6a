"""Points in the plane, around modes on a circle of radius 1."""

import hashlib
import math

import torch
from torch import Tensor

from ..interface import Batch, Data
from .settings import DataConfig

MODES, SPREAD = 8, 0.05  # and the standard deviation of points around their mode


class Points:
    """Points in memory [N, 2]."""

    def __init__(self, points: Tensor) -> None:
        self.points = points
        self.fingerprint = hashlib.sha256(points.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.points)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """`point` [B, 2]."""
        return {"point": self.points[indices]}


def open_data(cfg: DataConfig) -> Data:
    angles = 2 * math.pi * torch.arange(MODES) / MODES
    modes = torch.stack([angles.cos(), angles.sin()], dim=1)
    random = torch.Generator().manual_seed(0)

    def points(count: int) -> Points:
        chosen = torch.randint(MODES, (count,), generator=random)
        return Points(modes[chosen] + SPREAD * torch.randn(count, 2, generator=random))

    about = {"modes": modes.tolist(), "spread": SPREAD}
    return Data(points(cfg.num_points), points(128), points(128), about, {})
