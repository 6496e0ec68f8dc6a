"""Which process of a run this is, as torchrun says, and what the processes settle with each other.

A plain `python -m` is process 0 of 1.
"""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started; a plain `python -m` trains alone."""
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    yield
    gc.collect()  # a wrapped model in a reference cycle that outlives its group can hang gloo, or end in an abort
    dist.destroy_process_group()


def first(call: Callable[[], T]) -> T:
    """What a function returns in the first process, or what it raises there, in all of them."""
    box: list[T | Exception | None] = [None]
    if rank() == 0:
        try:
            box[0] = call()
        except Exception as error:  # the others would wait for ever
            box[0] = error
    if dist.is_initialized():
        dist.broadcast_object_list(box)
    if isinstance(box[0], Exception):
        raise box[0]
    return box[0]  # type: ignore[return-value]


def add_up(values: Tensor) -> Tensor:
    """The sum over all processes of values on the CPU, in place."""
    if dist.is_initialized():
        dist.all_reduce(values, group=_network())
    return values


class Agreement:
    """On a code that any process may come up with; all learn of it at the same question."""

    def __init__(self) -> None:
        self.asked: tuple[Tensor, dist.Work] | None = None

    def reach(self, code: int, *, wait: bool) -> int:
        """The largest code that was given at the question before; with `wait`, at this one too.

        Each process asks as often. The codes are exchanged over the network and beside the step, so that none waits
        for a device.
        """
        if not dist.is_initialized():
            return code
        before, largest = self.close(), torch.tensor(code)
        self.asked = (largest, dist.all_reduce(largest, dist.ReduceOp.MAX, _network(), async_op=True))
        return max(before, self.close()) if wait else before

    def close(self) -> int:
        """Wait for the last answer, without which a process must not leave."""
        if not self.asked:
            return 0
        (largest, work), self.asked = self.asked, None
        work.wait()
        return int(largest)


@cache
def _network() -> dist.ProcessGroup | None:
    """All processes, connected without their devices; None stands for the group that there is."""
    group: dist.ProcessGroup | None = None
    if dist.get_backend() == "nccl":
        group = dist.new_group(backend="gloo")
    return group
