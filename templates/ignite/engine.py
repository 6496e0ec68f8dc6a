"""The two engines: one trains the model, one measures it."""

from contextlib import nullcontext

import torch
from ignite import distributed as idist
from ignite.engine import Engine, EventEnum, Events
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from . import objective
from .config import Config
from .data import Batch
from .metrics import attach_metrics, mean_loss
from .parallel import no_sync
from .seeding import seed_for

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class StepEvents(EventEnum):
    """Fired by the trainer after each optimizer step; `state.step` counts them."""

    STEP_COMPLETED = "step_completed"


def build_trainer(
    model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, scaler: torch.amp.GradScaler, cfg: Config
) -> Engine:
    """An engine whose step trains on a batch; `state.train_loss` is the mean loss since its last reset."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def ends_window(engine: Engine) -> bool:
        batch = (engine.state.iteration - 1) % engine.state.epoch_length + 1
        return batch % cfg.optim.accumulate == 0 or batch == engine.state.epoch_length

    def step(engine: Engine, batch: Batch) -> Tensor:
        images, labels = (tensor.to(idist.device(), non_blocking=True) for tensor in batch)
        torch.manual_seed(seed_for(cfg.seed, engine.state.iteration, idist.get_rank()))
        model.train()
        with nullcontext() if ends_window(engine) else no_sync(model):
            with autocast(cfg):
                loss = objective.loss(model(images), labels, cfg.optim.label_smoothing)
            scaler.scale(loss / cfg.optim.accumulate).backward()
        if ends_window(engine):
            update()
        return loss.detach()

    def update() -> None:
        scaler.unscale_(optimizer)
        if cfg.optim.grad_clip:
            clip_grad_norm_(parameters, cfg.optim.grad_clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if not isinstance(schedule, ReduceLROnPlateau):
            schedule.step()

    trainer = Engine(step)
    trainer.register_events(*StepEvents, event_to_attr={StepEvents.STEP_COMPLETED: "step"})
    trainer.state_dict_user_keys.append("step")
    trainer.state.train_loss = mean_loss()

    @trainer.on(Events.ITERATION_COMPLETED)
    def count(engine: Engine) -> None:
        engine.state.train_loss.update(engine.state.output)
        if ends_window(engine):
            engine.state.step += 1
            engine.fire_event(StepEvents.STEP_COMPLETED)

    return trainer


def build_evaluator(net: nn.Module, cfg: Config, num_classes: int) -> Engine:
    """An engine whose step returns `(logits [B, C], labels [B])`, which its metrics are made of."""

    @torch.inference_mode()
    def step(engine: Engine, batch: Batch) -> Batch:
        images, labels = (tensor.to(idist.device(), non_blocking=True) for tensor in batch)
        net.eval()
        with autocast(cfg):
            logits = net(images)
        return logits.float(), labels

    evaluator = Engine(step)
    attach_metrics(evaluator, num_classes)
    return evaluator


def build_scaler(cfg: Config) -> torch.amp.GradScaler:
    """Keeps small float16 gradients from vanishing; does nothing in the other precisions."""
    return torch.amp.GradScaler(idist.device().type, enabled=cfg.precision == "fp16")


def autocast(cfg: Config) -> torch.autocast:
    """What a step computes in."""
    return torch.autocast(idist.device().type, DTYPES[cfg.precision], enabled=cfg.precision != "fp32")
