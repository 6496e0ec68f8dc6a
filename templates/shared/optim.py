"""The optimizer and how its learning rate moves."""

import math

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from .config import Config, OptimConfig


def steps_per_epoch(cfg: Config, num_batches: int) -> int:
    """Optimizer steps in an epoch; the last one may take fewer than `optim.accumulate` batches."""
    return math.ceil(num_batches / cfg.optim.accumulate)


def total_steps(cfg: Config, num_batches: int) -> int:
    """Optimizer steps in a run that is not stopped early."""
    steps = cfg.epochs * steps_per_epoch(cfg, num_batches)
    return min(steps, cfg.max_steps) if cfg.max_steps > 0 else steps


def build_optimizer(model: nn.Module, cfg: OptimConfig) -> Optimizer:
    """AdamW; biases and norms (one-dimensional parameters) are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": cfg.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, lr=cfg.lr)


def build_schedule(optimizer: Optimizer, cfg: OptimConfig, total_steps: int) -> LRScheduler:
    """Step a `ReduceLROnPlateau` with the validation loss after each epoch, the others after each step."""
    if cfg.schedule == "plateau":
        return ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    if cfg.schedule == "onecycle":
        return OneCycleLR(optimizer, max_lr=cfg.lr, total_steps=total_steps + 1)  # it counts step 0 too

    def scale(step: int) -> float:
        """Linear warm-up, then a half cosine to zero (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
        if step < cfg.warmup_steps:
            return (step + 1) / cfg.warmup_steps
        progress = (step - cfg.warmup_steps) / max(1, total_steps - cfg.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, scale)
