"""The two engines: one trains the model, one measures it."""

from contextlib import nullcontext

import torch
from ignite import distributed as idist
from ignite.engine import Engine, EventEnum, Events
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from . import objective
from .config import Config
from .data import Batch
from .metrics import MeanLoss, attach_metrics
from .model import Net
from .optim import Guard, WeightAverage, build_optimizer, build_schedule
from .parallel import distribute, distribute_optimizer, no_sync
from .seeding import seed_step

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class StepEvents(EventEnum):
    """Fired by the trainer after each optimizer step; `num_steps` tells how many there were."""

    STEP_COMPLETED = "step_completed"


class Training:
    """What training steps use and change."""

    def __init__(self, net: Net, cfg: Config, total_steps: int) -> None:
        self.model = distribute(net)
        self.optimizer = distribute_optimizer(build_optimizer(self.model, cfg))
        self.average = WeightAverage(net, self.optimizer, cfg.ema_decay)
        self.schedule = build_schedule(self.optimizer, cfg.optim, total_steps)
        self.scaler = torch.amp.GradScaler(idist.device().type, enabled=cfg.precision == "fp16")
        self.guard = Guard(self.optimizer, cfg.optim.grad_clip, self.scaler)
        self.loss = MeanLoss()  # since the last point of the curves
        self.losses: list[Tensor] = []  # of batches since the last step

    def update(self, step: int) -> None:
        """One optimizer step with the gradients that have been collected."""
        self.guard.clip(step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        for loss in self.losses:
            self.loss.update(loss)
        self.losses.clear()
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()


def build_trainer(training: Training, cfg: Config) -> Engine:
    """An engine whose step trains on a batch, and updates the weights after `optim.accumulate` of them."""

    def step(engine: Engine, batch: Batch) -> None:
        images, labels = (tensor.to(idist.device(), non_blocking=True) for tensor in batch)
        seed_step(cfg.seed, engine.state.iteration, idist.get_rank())
        position = (engine.state.iteration - 1) % (engine.state.epoch_length or 1) + 1
        updates = position % cfg.optim.accumulate == 0 or position == engine.state.epoch_length

        with nullcontext() if updates else no_sync(training.model):
            with autocast(cfg):
                loss = objective.loss(training.model(images), labels, cfg.optim.label_smoothing)
            training.scaler.scale(loss / cfg.optim.accumulate).backward()
        training.losses.append(loss.detach())
        if updates:
            training.update(num_steps(engine) + 1)
            engine.state.step += 1  # type: ignore[attr-defined]
            engine.fire_event(StepEvents.STEP_COMPLETED)

    trainer = Engine(step)
    trainer.register_events(*StepEvents, event_to_attr={StepEvents.STEP_COMPLETED: "step"})
    trainer.state_dict_user_keys.append("step")

    @trainer.on(Events.EPOCH_STARTED)
    def set_mode() -> None:
        training.model.train()  # a validation has ended with another one

    return trainer


def num_steps(trainer: Engine) -> int:
    """Optimizer steps that the trainer has made, those before a resume included."""
    return trainer.state.get_event_attrib_value(StepEvents.STEP_COMPLETED)


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


def autocast(cfg: Config) -> torch.autocast:
    """What a step computes in."""
    return torch.autocast(idist.device().type, DTYPES[cfg.precision], enabled=cfg.precision != "fp32")
