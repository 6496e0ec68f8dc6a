"""The optimizer and how its learning rate moves."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .config import LOG
from .processes import rank
from .progress import Progress


def build_optimizer(model: nn.Module, progress: Progress) -> Optimizer:
    """AdamW, at the rate of where the run is; biases and norms (one-dimensional parameters) are not decayed."""
    matrices, others = ([w for w in model.parameters() if (w.ndim > 1) is large] for large in (True, False))
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    cfg = progress.cfg.optim
    optimizer = AdamW(groups, cfg.lr, weight_decay=cfg.weight_decay, fused=True)  # as `Guard` needs it
    optimizer.register_load_state_dict_pre_hook(keep_settings)
    set_rate(optimizer, progress)
    return optimizer


def keep_settings(optimizer: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """Let a checkpoint bring what an optimizer has learnt, but not its settings; say so if the rate is another one."""
    before, now = saved["param_groups"][0]["lr"], optimizer.param_groups[0]["lr"]
    if rank() == 0 and not math.isclose(before, now):
        LOG.warning("The learning rate goes on at %.3g, where it was %.3g: settings have changed.", now, before)
    pairs = zip(optimizer.param_groups, saved["param_groups"], strict=True)
    return saved | {"param_groups": [own | {"params": group["params"]} for own, group in pairs]}


def set_rate(optimizer: Optimizer, progress: Progress) -> None:
    """Set the learning rate of the next step.

    But for a plateau's, it is a function of the share of the goal that is done: any run can be extended.
    """
    cfg, total, beta = progress.cfg.optim, progress.total, 0.9
    step = total - progress.goal + progress.steps
    if cfg.schedule == "plateau":
        rate = cfg.lr * progress.scale
    elif cfg.schedule == "onecycle":  # as torch's `OneCycleLR` (Smith & Topin 2017, arXiv:1708.07120)
        peak = 0.3 * (total + 1) - 1
        low, rises = cfg.lr / 25, step <= peak
        share = step / peak if rises else (step - peak) / (total - peak)
        rate = anneal(low, cfg.lr, share) if rises else anneal(cfg.lr, low / 1e4, share)
        beta = anneal(0.95, 0.85, share) if rises else anneal(0.85, 0.95, share)
    elif step < cfg.warmup_steps:
        rate = cfg.lr * ((step + 1) / cfg.warmup_steps)
    else:  # half a cosine to zero (Loshchilov & Hutter 2017, arXiv:1608.03983)
        rate = cfg.lr * anneal(1.0, 0.0, (step - cfg.warmup_steps) / max(1, total - cfg.warmup_steps))
    for group in optimizer.param_groups:
        group |= {"lr": rate, "betas": (beta, group["betas"][1])}


def anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


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
