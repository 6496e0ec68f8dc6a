"""The two engines: one trains the model, one measures it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from ignite import distributed as idist
from ignite.engine import Engine, EventEnum, Events
from torch.optim.lr_scheduler import ReduceLROnPlateau

from . import metrics, objective, optim, parallel, runs, seeding
from .config import Config
from .data import Batch
from .model import Net

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # that a step computes in, if not in float32


class StepEvents(EventEnum):
    """Fired by the trainer after each optimizer step; `num_steps` tells how many there were."""

    STEP_COMPLETED = "step_completed"


class Task:
    """What training uses and changes: the network, what moves its weights, and how well it has done."""

    def __init__(self, net: Net, cfg: Config, best: runs.Best, total_steps: int, report: runs.Report = None) -> None:
        self.net, self.cfg, self.best, self.report = net, cfg, best, report
        self.device, half = idist.device(), DTYPES.get(cfg.precision)
        self.autocast: AbstractContextManager[None] = torch.autocast(self.device.type, half) if half else nullcontext()
        self.model = parallel.distribute(net)
        self.optimizer = parallel.distribute_optimizer(optim.build_optimizer(self.model, cfg))
        self.average = optim.WeightAverage(self.optimizer, cfg.ema_decay)
        self.schedule = optim.build_schedule(self.optimizer, cfg.optim, total_steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=cfg.precision == "fp16")
        self.guard = optim.Guard(self.optimizer, cfg.optim.grad_clip, self.scaler)
        self.loss = metrics.MeanLoss()  # since the last point of the curves

    def update(self, step: int) -> None:
        """One optimizer step with the gradients that have been collected."""
        self.guard.clip(step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()


def build_trainer(task: Task) -> Engine:
    """An engine whose step trains on a batch, and updates the weights after `optim.accumulate` of them."""

    def step(engine: Engine, batch: Batch) -> None:
        images, labels = (tensor.to(task.device, non_blocking=True) for tensor in batch)
        seeding.seed_step(task.cfg.seed, engine.state.iteration, idist.get_rank())
        position = (engine.state.iteration - 1) % (engine.state.epoch_length or 1) + 1
        updates = position % task.cfg.optim.accumulate == 0 or position == engine.state.epoch_length

        with nullcontext() if updates else parallel.no_sync(task.model):
            with task.autocast:
                loss = objective.loss(task.model(images), labels, task.cfg.optim.label_smoothing)
            task.scaler.scale(loss / task.cfg.optim.accumulate).backward()
        if updates:
            task.update(num_steps(engine) + 1)
        task.loss.losses.append(loss.detach())  # of a batch that has done all it should
        if updates:
            engine.state.step += 1  # type: ignore[attr-defined]
            engine.fire_event(StepEvents.STEP_COMPLETED)
            if num_steps(engine) == task.cfg.max_steps:
                engine.terminate_epoch()

    trainer = Engine(step)
    trainer.register_events(*StepEvents, event_to_attr={StepEvents.STEP_COMPLETED: "step"})
    trainer.state_dict_user_keys.append("step")

    @trainer.on(Events.EPOCH_STARTED)
    def begin_epoch() -> None:
        trainer.state.dataloader.sampler.set_epoch(trainer.state.epoch - 1)  # type: ignore[union-attr]
        task.model.train()  # a validation has ended with another mode

    return trainer


def num_steps(trainer: Engine) -> int:
    """Optimizer steps that the trainer has made, those before a resume included."""
    return trainer.state.get_event_attrib_value(StepEvents.STEP_COMPLETED)


def build_evaluator(task: Task) -> Engine:
    """An engine whose step returns `(logits [B, C], labels [B])`, which its metrics are made of."""

    @torch.inference_mode()
    def step(engine: Engine, batch: Batch) -> Batch:
        images, labels = (tensor.to(task.device, non_blocking=True) for tensor in batch)
        task.net.eval()
        with task.autocast:
            logits = task.net(images)
        return logits.float(), labels

    evaluator = Engine(step)
    metrics.attach_metrics(evaluator, len(task.best.images.classes))
    return evaluator
