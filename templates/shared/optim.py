"""The optimizer and how its learning rate moves."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .config import Config, OptimConfig


def steps_per_epoch(cfg: Config, num_batches: int) -> int:
    """Optimizer steps in an epoch; the last one may take fewer than `optim.accumulate` batches."""
    return math.ceil(num_batches / cfg.optim.accumulate)


def total_steps(cfg: Config, num_batches: int) -> int:
    """Optimizer steps in a run that is not stopped early."""
    steps = cfg.epochs * steps_per_epoch(cfg, num_batches)
    return min(steps, cfg.max_steps) if cfg.max_steps > 0 else steps


def build_optimizer(model: nn.Module, cfg: Config) -> Optimizer:
    """AdamW; biases and norms (one-dimensional parameters) are not decayed."""
    matrices, others = ([w for w in model.parameters() if (w.ndim > 1) is large] for large in (True, False))
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, cfg.optim.lr, weight_decay=cfg.optim.weight_decay, fused=True)  # as `Guard` needs it


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


class Guard:
    """Clips gradients, and lets none that is not finite change the weights or AdamW's state.

    The optimizer skips such a step on the device, so that no step waits for one. In float16 a few are normal:
    after each the scaler takes a smaller factor, until the gradients fit.
    """

    def __init__(self, optimizer: Optimizer, max_norm: float, scaler: GradScaler) -> None:
        self.optimizer, self.scaler, self.max_norm = optimizer, scaler, max_norm or math.inf
        self.weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.first, self.skipped = 0, dict[int, Tensor]()  # step that failed; whether each after the last question did

    def clip(self, step: int) -> None:
        """Make the gradients of a step ready for the optimizer."""
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.weights, self.max_norm)  # of all processes, so all of them skip
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        # What is not finite less itself is not zero. Fused updates read `found_inf`.
        self.skipped[step] = self.optimizer.found_inf = (norm - norm != 0).float()  # type: ignore[attr-defined]

    def failed_step(self) -> int:
        """The first step that was skipped and should not have been, or 0. This waits for the device."""
        for step, skipped in self.skipped.items():
            if skipped or self.scaler.is_enabled():
                self.first = (self.first or step) if skipped else 0
        self.skipped.clear()
        return self.first if self.scaler.get_scale() <= 1 else 0


class WeightAverage:
    """The exponential moving average of a network's weights (EMA), which takes their place in a validation.

    It follows the optimizer, in one call a step that reads nothing from the device (torch's `AveragedModel`
    asks for its counter in each), and is part of its state: what saves, loads or shards one does both. With a
    decay of 0 it does nothing.
    """

    def __init__(self, optimizer: Optimizer, decay: float) -> None:
        self.optimizer, self.blend = optimizer, get_ema_multi_avg_fn(decay)
        self.weights = [w for group in optimizer.param_groups for w in group["params"]] if decay else []
        if decay:
            optimizer.register_step_post_hook(self.follow)

    def follow(self, *step: Any) -> None:
        """Move the averages towards what a step has made of the weights."""
        states = [self.optimizer.state[weight] for weight in self.weights]
        if "average" not in states[0]:
            for state, weight in zip(states, self.weights, strict=True):
                state["average"] = weight.detach().clone()
        self.blend([state["average"] for state in states], self.weights, 0)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages, before a validation and after it; buffers stay the newest."""
        for weight in self.weights:
            average, held = self.optimizer.state[weight]["average"], weight.clone()
            weight.copy_(average)
            average.copy_(held)
