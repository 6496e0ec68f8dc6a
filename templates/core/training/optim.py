"""What moves the weights: the optimizer, its learning rate, the gradient guard, and averages of the weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
#: if strategy == "fsdp"
from torch.distributed.tensor import DTensor
#: endif
from torch.nn.utils import get_total_norm
from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..config import Config, OptimConfig
#: if strategy != "single"
from ..distributed import processes
#: endif
#: if strategy == "fsdp"
from ..distributed.sharding import shard_states
#: endif
from ..errors import LOG
from ..runs.progress import Progress
#: if pretrained == "transformers"
from ..task.model import rates
#: endif
from .module import TrainingModule


class Update:
    """The optimizer and what goes with it; a checkpoint holds its state."""

    losses: tuple[str, ...] = ("train/loss",)  # names under which the training loss is logged

    def __init__(self, module: TrainingModule, weights: list[nn.Parameter], cfg: Config, scaler: GradScaler) -> None:
        self.optimizer = build_optimizer(weights, cfg.optim)
        #: if pretrained == "transformers"
        split_groups(self.optimizer, rates(module.net))
        #: endif
        #: if strategy == "fsdp"
        shard_states(self.optimizer)
        #: endif
        self.guard = Guard(self.optimizer, cfg.optim.grad_clip, scaler, module.tally)
        self.average = WeightAverage(self.optimizer, cfg.ema_decay)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set_rate(self, progress: Progress) -> None:
        set_rate(self.optimizer, progress)

    def failed_step(self) -> int:
        return self.guard.failed_step()

    def has_begun(self, step: int) -> bool:
        """Whether the weights may have been changed by this step."""
        return step in self.guard.skipped

    def swap(self) -> None:
        """Exchange weights and their averages, before a validation and after it."""
        self.average.swap()

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "reference": self.guard.reference}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.guard.reference = state["reference"]


def trained_weights(module: TrainingModule) -> list[nn.Parameter]:
    """All that is not frozen."""
    return [weight for weight in module.parameters() if weight.requires_grad and weight is not module.tally]


def build_optimizer(weights: list[nn.Parameter], cfg: OptimConfig) -> Optimizer:
    """AdamW; biases and norms (one-dimensional parameters) are not decayed."""
    matrices, others = ([w for w in weights if (w.ndim > 1) is large] for large in (True, False))
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = AdamW(groups, cfg.lr, weight_decay=cfg.weight_decay, fused=True)  # as `Guard` needs it
    optimizer.register_load_state_dict_pre_hook(keep_settings)
    return optimizer


#: if pretrained == "transformers"
def split_groups(optimizer: Optimizer, factors: dict[nn.Parameter, float]) -> None:
    """Give weights their own share of the learning rate: `factors` says which; all others have the whole of it."""
    groups, optimizer.param_groups = optimizer.param_groups, []
    for group in groups:
        parts: dict[float, list[Any]] = {1.0: []} if not optimizer.param_groups else {}
        for weight in group["params"]:
            parts.setdefault(factors.get(weight, 1.0), []).append(weight)
        optimizer.param_groups += [{**group, "params": part, "factor": factor} for factor, part in parts.items()]


#: endif
def keep_settings(optimizer: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """Load the moments of an optimizer, but not its settings; say so if the learning rate is another one."""
    before, now = saved["param_groups"][0]["lr"], optimizer.param_groups[0]["lr"]
    if not math.isclose(before, now):
        LOG.warning("The learning rate is %.3g from here on, and was %.3g: settings have changed.", now, before)
    pairs = zip(optimizer.param_groups, saved["param_groups"], strict=True)
    return saved | {"param_groups": [own | {"params": group["params"]} for own, group in pairs]}


def set_rate(optimizer: Optimizer, progress: Progress) -> None:
    """Set the learning rate of the next step.

    But for a plateau's, it is a function of the share of the goal that is done: any run can be extended.
    """
    #: if generator == "flow"
    cfg, total, beta = progress.cfg.optim, progress.total, 0.9
    #: endif
    #: if generator == "gan"
    cfg, total, beta = progress.cfg.optim, progress.total, progress.cfg.optim.momentum
    #: endif
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
        #: if pretrained == "none"
        group |= {"lr": rate, "betas": (beta, group["betas"][1])}


        #: endif
        #: if pretrained == "transformers"
        group |= {"lr": rate * group.get("factor", 1.0), "betas": (beta, group["betas"][1])}


#: endif
def anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


class Guard:
    """Turns the gradients of a step into those of its mean loss, clips them, and skips the step if one is not finite.

    The mean is over all samples of the step: of each accumulated batch, in each process. How many these are is known
    last, after gradients have been added up, averaged over processes and scaled. So the count goes through all that,
    too: `TrainingModule` adds `tally * count` to the loss, where the parameter `tally` stays 0, and the gradient of
    `tally` is what has become of the count. Gradients divided by it are those of the mean, whatever was done to both.

    An example: two accumulated batches of 60 and 20 samples, with losses that add up to 120 and 20, one weight w
    whose gradients add up to 30 and 6, and a trainer that halves each loss, as there are two. Backward leaves

        w.grad     = (30 + 6) / 2 / reference
        tally.grad = (60 + 20) / 2 / reference

    and their quotient is 36 / 80: the gradient of the mean over 80 samples. `reference`, here 64, only keeps numbers
    small, so that float16 does not overflow: it is the first count, rounded up to a power of two, which rounds nothing.

    Dividing, clipping and skipping are done by the fused optimizer on the device, so no step waits for it. In float16
    a few skipped steps are normal: the scaler takes smaller factors until the gradients fit.
    """

    def __init__(self, optimizer: Optimizer, max_norm: float, scaler: GradScaler, tally: nn.Parameter) -> None:
        self.optimizer, self.scaler, self.tally, self.max_norm = optimizer, scaler, tally, max_norm or math.inf
        self.weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.reference = 0.0  # the same in all steps
        self.first, self.skipped = 0, dict[int, Tensor]()  # step that failed; whether each since `failed_step` did
        if scaler.is_enabled():
            optimizer.register_step_pre_hook(self.insist)

    def loss(self, total: Tensor, count: Tensor) -> Tensor:
        """What backward runs on; the trainer may divide it further."""
        if not self.reference:  # waits for the device, once in a run
            number = count.detach().double().cpu()
            #: if strategy != "single"
            number = processes.add_up(number)  # so that it is the same in all processes
            #: endif
            self.reference = 2.0 ** math.ceil(math.log2(max(number.item(), 1)))
        return total / self.reference

    def prepare(self, step: int) -> None:
        """Make the gradients of a step ready for the optimizer, which comes next."""
        self.scaler.unscale_(self.optimizer)
        assert self.tally.grad is not None
        count = (self.tally.grad / self.scaler.scale(torch.ones_like(self.tally))).squeeze()
        self.tally.grad = None
        factor = torch.where(count > 0, 1 / count, 0)  # a step that counts nothing has no gradient
        norm = get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        #: if strategy == "fsdp"
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm  # of all processes
        #: endif
        norm = norm * factor
        clip = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
        fused: Any = self.optimizer
        fused.grad_scale, fused.found_inf = 1 / (factor * clip), (~norm.isfinite()).float()
        self.skipped[step] = fused.found_inf

    def insist(self, optimizer: Any, *step: Any) -> None:
        """Skip also a step whose norm overflows; the scaler, which looks at each number alone, would make it."""
        *_, optimizer.found_inf = self.skipped.values()

    def failed_step(self) -> int:
        """The first step that was skipped and should not have been, or 0. This waits for the device."""
        for step, skipped in self.skipped.items():
            if skipped or self.scaler.is_enabled():
                self.first = (self.first or step) if skipped else 0
        self.skipped.clear()
        return self.first if self.scaler.get_scale() <= 1 else 0


class WeightAverage:
    """The exponential moving average of weights (EMA), which takes their place in a validation.

    It follows the optimizer, in one call a step that reads nothing from the device (torch's `AveragedModel` asks for
    its counter in each), and is part of its state: what saves, loads or shards one does both. With a decay of 0 it
    does nothing.
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
