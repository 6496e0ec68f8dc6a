"""Which process of a run this is, and how the processes of a run agree.

A launcher such as torchrun starts them; a plain `python -m` is alone. Who is alone has
rank 0 of 1, whatever the environment says.
"""

import gc
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore, distributed_c10d  # type: ignore[attr-defined]

#: if "slurm" in launch
from ..errors import LOG, UserError
from . import slurm
from .watch import Watch

#: endif
#: if "slurm" not in launch
from ..errors import LOG, UserError
from .watch import Watch

#: endif
P = ParamSpec("P")
T = TypeVar("T")

SEE_S = 15  # in which a file that one node writes has to show on others: network file systems remember for a while


def rank() -> int:
    """The number of this process in the group that it has joined."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes in that group."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(timeout: int) -> Iterator[None]:
    """Join the processes of a launcher, of which the first gives warnings; a plain `python -m` trains alone.

    One that does not answer for `timeout` seconds is named, and all end: see `Watch`.
    """
    #: if "slurm" in launch
    own = slurm.join()
    #: endif
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Of each group, also those that frameworks make: `Watch`, which knows more, is to be first.
    bound = timedelta(seconds=timeout + 60)
    vars(distributed_c10d).update(default_pg_timeout=bound, default_pg_nccl_timeout=bound)
    #: if "slurm" in launch
    own = own or _meet(bound)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", **own)
    #: endif
    #: if "slurm" not in launch
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", **_meet(bound))
    #: endif
    LOG.setLevel(logging.ERROR if rank() else logging.WARNING)
    with Watch(timeout):
        yield
    gc.collect()  # a wrapped model in a reference cycle that outlives its group can hang gloo, or end in an abort
    dist.destroy_process_group()


def _meet(bound: timedelta) -> dict[str, Any]:
    """What `init_process_group` has to know if torchrun's own process keeps the store where processes meet.

    That store still has what processes wrote there that torchrun had started before, and torch 2.13 reads it
    (pytorch#135712). So the first thinks of a new prefix, and the others know it by its answer to them.
    """
    said = os.environ
    if said.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    number, size, own = int(said["RANK"]), int(said["WORLD_SIZE"]), secrets.token_hex(8)
    store, begin = TCPStore(said["MASTER_ADDR"], int(said["MASTER_PORT"]), timeout=bound), time.monotonic()
    if number == 0:
        store.set("prefix", prefix := own)
        others = store.multi_get([f"{prefix}/{other}" for other in range(1, size)]) if size > 1 else []
        store.set(f"{prefix}/met", b" ".join(others).decode())
    while number > 0:
        store.set(f"{(prefix := store.get('prefix').decode())}/{number}", own)
        if store.check([f"{prefix}/met"]) and own.encode() in store.get(f"{prefix}/met"):
            break
        if time.monotonic() - begin > bound.total_seconds():
            raise UserError(f"process {number} of {size} did not meet the others within {bound.total_seconds():g} s.")
        time.sleep(0.05)
    return {"store": PrefixStore(prefix, store), "rank": number, "world_size": size}


def first(call: Callable[[], T]) -> T:
    """Call a function in the first process alone; all return what it returns, or raise what it raises."""
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


def by_first(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function be called through `first`."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return first(partial(function, *args, **kwargs))

    return call


def wait_for_first() -> None:
    """Wait until the first process has come here."""
    first(lambda: None)


def check_shared(folder: Path) -> None:
    """Raise `UserError` in all processes if any does not see what the first writes into a folder, which it makes."""
    if not dist.is_initialized():
        return
    mark = folder / f".seen-{first(lambda: time.time_ns())}"
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    wait_for_first()
    until, blind = time.monotonic() + SEE_S, torch.zeros(world_size())
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.1)
    blind[rank()] = not mark.exists()
    add_up(blind)
    if rank() == 0:
        mark.unlink()
    if numbers := ", ".join(map(str, blind.nonzero().flatten().tolist())):
        text = "do not see what process 0 writes there. All nodes need the same disk there"
        raise UserError(f"{folder.absolute()}: processes {numbers} {text}.")


def add_up(values: Tensor) -> Tensor:
    """The sum over all processes of values on the CPU, in place."""
    if dist.is_initialized():
        dist.all_reduce(values, group=_network())
    return values


class Agreement:
    """Lets all processes learn of a code that any of them comes up with, at the same question."""

    def __init__(self) -> None:
        self.asked: tuple[Tensor, dist.Work] | None = None

    def reach(self, code: int, *, wait: bool) -> int:
        """The largest code of all processes at the question before; with `wait`, at this one too.

        Each process has to ask equally often. The codes are exchanged over the network while the next step runs, so
        that no process waits for a device.
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
    """All processes, connected without their devices; None stands for the default group."""
    group: dist.ProcessGroup | None = None
    if dist.get_backend() == "nccl":
        group = dist.new_group(backend="gloo")
    return group
