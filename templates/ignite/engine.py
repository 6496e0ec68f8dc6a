"""The two engines: one trains the model, one measures it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from ignite import distributed as idist
from ignite.engine import Engine, EventEnum, Events

from . import metrics, objective, optim, parallel, runs, seeding
from .config import Config
from .data import Batch
from .model import Net
from .progress import Progress

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # that a step computes in, if not in float32


class StepEvents(EventEnum):
    """Fired by the trainer after each optimizer step."""

    STEP_COMPLETED = "step_completed"


class Task:
    """What training uses and changes: the network, what moves its weights, and how well it has done."""

    def __init__(self, net: Net, cfg: Config, best: runs.Best, progress: Progress, report: runs.Report = None) -> None:
        self.net, self.cfg, self.best, self.progress, self.report = net, cfg, best, progress, report
        self.device, half = idist.device(), DTYPES.get(cfg.precision)
        self.autocast: AbstractContextManager[None] = torch.autocast(self.device.type, half) if half else nullcontext()
        self.model = parallel.distribute(net)
        self.optimizer = parallel.distribute_optimizer(optim.build_optimizer(self.model, progress))
        self.average = optim.WeightAverage(self.optimizer, cfg.ema_decay)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=cfg.precision == "fp16")
        self.guard = optim.Guard(self.optimizer, cfg.optim.grad_clip, self.scaler)
        self.loss = metrics.MeanLoss()  # since the last point of the curves

    def update(self, batches: int) -> None:
        """One optimizer step with the gradients that have been collected from so many batches."""
        self.guard.clip(self.progress.steps + 1)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.progress.advance(batches)
        optim.set_rate(self.optimizer, self.progress)


def build_trainer(task: Task) -> Engine:
    """An engine whose step trains on a batch, and updates the weights after `optim.accumulate` of them."""

    def step(engine: Engine, batch: Batch) -> None:
        images, labels = (tensor.to(task.device, non_blocking=True) for tensor in batch)
        seeding.seed_step(task.cfg.seed, engine.state.iteration, idist.get_rank())
        batches = engine.state.iteration - task.progress.batches  # since the last optimizer step
        updates = batches in (task.cfg.optim.accumulate, task.progress.batches_left)

        with nullcontext() if updates else parallel.no_sync(task.model):
            with task.autocast:
                loss = objective.loss(task.model(images), labels, task.cfg.optim.label_smoothing)
            task.scaler.scale(loss / task.cfg.optim.accumulate).backward()
        if updates:
            task.update(batches)
        task.loss.losses.append(loss.detach())  # of a batch that has done all it should
        if updates:
            engine.state.step = task.progress.steps  # type: ignore[attr-defined]
            engine.fire_event(StepEvents.STEP_COMPLETED)
            if task.progress.steps == task.cfg.max_steps:
                engine.terminate_epoch()

    trainer = Engine(step)
    trainer.register_events(*StepEvents, event_to_attr={StepEvents.STEP_COMPLETED: "step"})
    goal = {"max_epochs": task.cfg.epochs, "epoch_length": task.progress.num_batches}
    trainer.load_state_dict(goal | {"iteration": task.progress.batches})

    @trainer.on(Events.EPOCH_STARTED)
    def begin_epoch() -> None:
        task.model.train()  # a validation has ended with another mode

    return trainer


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
