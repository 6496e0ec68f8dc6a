"""What a run comes to, compared with another."""

from pathlib import Path

import torch


def assert_same_results(ours: Path, theirs: Path) -> None:
    """Two runs logged the same, kept the same best weights, and drew pictures of the same sums."""
    for name in ("metrics.csv", "best.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    for name in ("best.pt", "sums.pt"):
        first, second = (torch.load(run / name, weights_only=True) for run in (ours, theirs))
        assert first.keys() == second.keys(), name
        assert all(torch.equal(first[key], second[key]) for key in first), name
