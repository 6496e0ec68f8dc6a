"""Which process of a run this is: torchrun says so, and a plain `python -m` is process 0 of 1."""

import os

import torch.distributed as dist


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()
