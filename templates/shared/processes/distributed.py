"""Which process of a run this is, as torchrun says, and what the processes settle with each other.

A plain `python -m` is process 0 of 1.
"""

import os
from dataclasses import replace
from functools import cache

import torch
import torch.distributed as dist
import yaml
from torch import nn

from . import storage
from .config import Config, UserError, read_settings

AGAIN = 75  # the exit code that asks for another start, as after SIGUSR1


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


class Agreement:
    """On a code that any process may come up with; all learn of it at the same question."""

    def __init__(self) -> None:
        self.asked: tuple[torch.Tensor, dist.Work] | None = None

    def reach(self, code: int) -> int:
        """The largest code that was given at the question before. Each process asks as often.

        The codes are exchanged over the network and beside the step, so that none waits for a device.
        """
        if not dist.is_initialized():
            return code
        before = self.close()
        largest = torch.tensor(code)
        self.asked = (largest, dist.all_reduce(largest, dist.ReduceOp.MAX, _network(), async_op=True))
        return before

    def close(self) -> int:
        """Wait for the last answer, without which a process must not leave."""
        if not self.asked:
            return 0
        largest, work = self.asked
        work.wait()
        return int(largest)


def share_batchnorm(net: nn.Module) -> None:
    """Let BatchNorm normalize over the batches of all processes; raises `UserError` where torch cannot."""
    if world_size() > 1 and not torch.cuda.is_available():
        raise UserError(
            "sync_batchnorm=true: torch shares BatchNorm's statistics between GPUs only. Without them"
            " leave it false, or normalize each sample by itself, as GroupNorm does."
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(net)


def recall_parts(cfg: Config) -> Config:
    """The settings of a run, with as many micro-batches as it came to need before."""
    parts = 1 if cfg.resume == "never" else read_settings(cfg.out_dir).micro_batches
    return replace(cfg, micro_batches=max(cfg.micro_batches, parts))


def end_with_others(cfg: Config) -> None:
    """End where others cannot follow: all do, and go on with these settings when they are started again."""
    storage.save_text(cfg.out_dir / "config.yaml", yaml.safe_dump(cfg.plain(), sort_keys=False))
    if world_size() > 1:
        raise SystemExit(AGAIN)


@cache
def _network() -> dist.ProcessGroup | None:
    """All processes, connected without their devices; None stands for the group that there is."""
    group: dist.ProcessGroup | None = None
    if dist.get_backend() == "nccl":
        group = dist.new_group(backend="gloo")
    return group
