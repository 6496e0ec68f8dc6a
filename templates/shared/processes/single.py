"""Which process of a run this is, as torchrun says, and what it settles with others: there are none."""

import os

from torch import nn

from .config import Config


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def barrier() -> None:
    """There is nobody to wait for."""


class Agreement:
    """Of this process with itself."""

    def reach(self, code: int) -> int:
        return code

    def close(self) -> None:
        """Nobody waits for an answer."""


def share_batchnorm(net: nn.Module) -> None:
    """BatchNorm sees every batch as it is."""


def recall_parts(cfg: Config) -> Config:
    """A run that memory does not suffice for finds that out again."""
    return cfg


def end_with_others(cfg: Config) -> None:
    """There are none that cannot follow."""
