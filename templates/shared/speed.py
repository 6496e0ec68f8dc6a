"""Settings that trade time, memory and exactness, and a look at where the time goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import profile, schedule, tensorboard_trace_handler

from . import processes
from .config import LOG, Config, UserError
from .model import Net


def prepare(net: Net, cfg: Config) -> Net:
    """Set up how the network computes; its weights keep their names and values.

    Raises `UserError` where the machine cannot do what the settings ask for.
    """
    if cfg.sync_batchnorm:
        processes.share_batchnorm(net)
    for conv in (module for module in net.modules() if cfg.channels_last and isinstance(module, nn.Conv2d)):
        # It is given images in this format, for free if they have it already.
        conv.register_forward_pre_hook(lambda _, x: x[0].contiguous(memory_format=torch.channels_last))
    net.activation_checkpointing, net.micro_batches = cfg.activation_checkpointing, cfg.micro_batches
    if cfg.compile:
        net.compile()  # in place: `torch.compile(net)` would put a prefix before the names of the weights
    return net


def halve_parts(cfg: Config, error: Exception) -> Config:
    """The settings to go on with after memory has run out; the batch of a step stays as large as it is."""
    if 2 * cfg.micro_batches > cfg.data.batch_size:
        raise UserError(f"memory runs out with one sample at a time. Train a smaller model. ({error})")
    cfg = replace(cfg, micro_batches=2 * cfg.micro_batches)
    if cfg.resume == "never" or any((cfg.out_dir / "checkpoints").glob("step-*.pt")):  # else from where it began
        cfg = replace(cfg, resume="auto")
    LOG.warning("Memory has run out: each batch is computed in %d parts from here on.", cfg.micro_batches)
    processes.end_with_others(cfg)
    return cfg


@contextmanager
def profiled(cfg: Config) -> Iterator[None]:
    """Write what a few optimizer steps are spent on into `profile/`."""
    few = schedule(wait=2, warmup=2, active=6, repeat=1)  # the first steps are slower than all others
    save = tensorboard_trace_handler(str(cfg.out_dir / "profile"), f"rank-{processes.rank()}")
    with profile(schedule=few, on_trace_ready=save) as prof, register_optimizer_step_post_hook(lambda *_: prof.step()):
        yield
