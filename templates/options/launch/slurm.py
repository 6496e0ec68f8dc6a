"""How processes that Slurm's `srun` has started find each other."""

import os
import re
import socket
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from ..errors import UserError


def join() -> dict[str, Any]:
    """Meet the other tasks of a step of Slurm; return what `init_process_group` has to know of them.

    It is nothing where torchrun has started this process, or nobody: a plain `python -m` in an allocation has no step
    of several tasks. Raises `UserError` if another process does not come.
    """
    if "RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) == 1:
        return {}
    read()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return {"store": _meet(rank, size, _patience()), "rank": rank, "world_size": size}


def read() -> None:
    """Say in torchrun's words what Slurm has told this process; an address that is given stays."""
    said = os.environ
    own = {"RANK": "PROCID", "LOCAL_RANK": "LOCALID", "WORLD_SIZE": "STEP_NUM_TASKS", "GROUP_RANK": "NODEID"}
    said.update({name: said[f"SLURM_{source}"] for name, source in own.items()})
    tasks = re.findall(r"(\d+)(?:\(x(\d+)\))?", said["SLURM_STEP_TASKS_PER_NODE"])  # as in 8(x3),4
    nodes = [count for count, times in tasks for _ in range(int(times or 1))]
    said.update(LOCAL_WORLD_SIZE=nodes[int(said["SLURM_NODEID"])], TORCHELASTIC_RUN_ID=said["SLURM_JOB_ID"])
    first = re.sub(r"\[(\w+).*?\]", r"\1", said["SLURM_STEP_NODELIST"]).partition(",")[0]  # of gpu[07-09,12],cpu1
    said.setdefault("MASTER_ADDR", first)
    said.setdefault("MASTER_PORT", str(10000 + int(said["SLURM_JOB_ID"]) % 20000))  # below those that systems give out


def _patience() -> timedelta:
    """The time in which all processes have to come."""
    said = os.environ.get("JOIN_TIMEOUT_S", "300")
    try:
        return timedelta(seconds=float(said))
    except (ValueError, OverflowError):
        raise UserError(f"JOIN_TIMEOUT_S={said}: give a number of seconds.") from None


def _meet(rank: int, size: int, bound: timedelta) -> TCPStore:
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    names = [f"here/{other}" for other in range(size)]
    store: TCPStore | None = None
    try:
        store = TCPStore(address, port, None, rank == 0, bound, wait_for_workers=False)
        store.set(names[rank], socket.gethostname())
        store.wait(names, bound)
    except dist.DistError as error:
        if "EADDRINUSE" in str(error):
            raise UserError(f"MASTER_PORT={port}: it is in use on {address}. Give another one.") from None
        who = _missing(store, names) if store and rank == 0 else "another process"
        text = f"{who} did not come within {bound.total_seconds():g} s, or has ended. Look at the log of its node."
        raise UserError(f"{address}:{port}: {text}") from None
    return store


def _missing(store: TCPStore, names: list[str]) -> str:
    """The numbers of processes that have not come, as the first one knows them."""
    missing = [str(rank) for rank, name in enumerate(names) if not store.check([name])]
    return f"of {len(names)} processes, {', '.join(missing[:8])}{' and others' if missing[8:] else ''}"
