"""Which process of a run this is, as torchrun says, and what it settles with others: there are none."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor

from ..errors import UserError

T = TypeVar("T")


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group() -> Iterator[None]:
    """Refuse to train the same model several times side by side."""
    if world_size() > 1:
        raise UserError(f"torchrun started {world_size()} processes; this project trains in one. Choose strategy=ddp.")
    yield


def first(call: Callable[[], T]) -> T:
    """What a function returns in the first process, or raises: there is no other."""
    return call()


def add_up(values: Tensor) -> Tensor:
    """The sum over all processes."""
    return values


class Agreement:
    """Of this process with itself."""

    def reach(self, code: int, *, wait: bool) -> int:
        return code

    def close(self) -> None:
        """Nobody waits for an answer."""
