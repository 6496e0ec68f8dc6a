"""Settings that trade time, memory and exactness, and a look at where the time goes."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch
import yaml
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import profile, schedule, tensorboard_trace_handler

from . import processes, signals, storage
from .config import Config, UserError
from .model import Net

LOG = logging.getLogger(__name__)


def prepare(net: Net, cfg: Config) -> Net:
    """Set up how the network computes; its weights keep their names and values.

    Raises `UserError` where the machine cannot do what the settings ask for.
    """
    if cfg.sync_batchnorm:
        processes.share_batchnorm(net)
    if cfg.channels_last:
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(_channels_last)
    net.activation_checkpointing, net.micro_batches = cfg.activation_checkpointing, cfg.micro_batches
    if cfg.compile:
        net.compile()  # in place: `torch.compile(net)` would put a prefix before the names of the weights
    return net


def recall_parts(cfg: Config) -> Config:
    """The settings of a run, with as many micro-batches as it came to need before."""
    path = cfg.out_dir / "config.yaml"
    if cfg.resume == "never" or not path.exists():
        return cfg
    parts = yaml.safe_load(path.read_text()).get("micro_batches", 1)  # there was no such setting up to 0.2.0
    return replace(cfg, micro_batches=max(cfg.micro_batches, parts))


def halve_parts(cfg: Config, error: Exception) -> Config:
    """The settings to go on with after memory has run out; the batch of a step stays as large as it is.

    Of several processes the others cannot follow: all end, and go on with these when they are started again.
    """
    if 2 * cfg.micro_batches > cfg.data.batch_size:
        raise UserError(f"memory runs out with one sample at a time. Train a smaller model. ({error})")
    cfg = replace(cfg, micro_batches=2 * cfg.micro_batches, resume="auto")
    with suppress(FileNotFoundError):  # another process has just written the same
        storage.save_text(cfg.out_dir / "config.yaml", yaml.safe_dump(cfg.plain(), sort_keys=False))
    LOG.warning("Memory has run out: each batch is computed in %d parts from here on.", cfg.micro_batches)
    if processes.world_size() > 1:
        raise SystemExit(signals.CODES["SIGUSR1"])
    gc.collect()
    torch.cuda.empty_cache()
    return cfg


@contextmanager
def profiled(cfg: Config) -> Iterator[None]:
    """Write what a few optimizer steps are spent on into `profile/`, if the settings ask for it."""
    if not cfg.profile:
        yield
        return
    few = schedule(wait=2, warmup=2, active=6, repeat=1)  # the first steps are slower than all others
    save = tensorboard_trace_handler(str(cfg.out_dir / "profile"), f"rank-{processes.rank()}")
    profiler = profile(schedule=few, on_trace_ready=save)
    with profiler, register_optimizer_step_post_hook(lambda *step: profiler.step()):
        yield


def _channels_last(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """The images of a convolution with their channels side by side; the same for free if they are already."""
    return inputs[0].contiguous(memory_format=torch.channels_last)
