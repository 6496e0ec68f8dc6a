"""The two engines: one trains the model, one measures it."""

import logging
import os
import sys
from unittest.mock import patch

import torch
from ignite import distributed as idist
from ignite import handlers
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from torch import Tensor

from .. import seeding
from ..distributed import parallel
from ..interface import Batch
from ..task.model import blocks
from .loading import Loader, to_device
from .state import Run
from .step import autocast, build_state, build_trainer


class Sums(Metric):
    """Adds up what `Objective.measure` gives, over batches and processes."""

    def reset(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def update(self, output: tuple[dict[str, Tensor]]) -> None:
        for name, value in output[0].items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def compute(self) -> dict[str, Tensor]:
        return {name: torch.as_tensor(idist.all_reduce(value.clone())) for name, value in self.sums.items()}


def build_evaluator(run: Run) -> Engine:
    """An engine whose step measures a batch; `state.metrics["sums"]` has the sums of all."""

    @torch.inference_mode()
    def step(engine: Engine, batch: Batch) -> tuple[dict[str, Tensor]]:
        generator = seeding.generator(engine.state.iteration, idist.get_rank())
        with autocast(run):
            sums = run.module(to_device(batch, idist.device()), generator=generator)
        return (sums,)  # Ignite would take a bare dict for predictions and targets

    evaluator = Engine(step)
    Sums().attach(evaluator, "sums")
    return evaluator


def fit(run: Run, loaders: tuple[Loader, Loader]) -> None:
    """Train and validate until the goal is reached, or the run ends early."""
    if idist.model_name() == "serial":  # Ignite has not looked at the processes yet
        with patch.dict(os.environ):
            os.environ.pop("SLURM_JOB_ID", None)  # it would take Slurm's word for torchrun's
            idist.sync()
    logging.getLogger("ignite").setLevel(logging.CRITICAL)  # errors are told once, where they end the run
    model, at = parallel.distribute(run.module, run.module.tally, blocks(run.module.net)), run.progress
    state = build_state(run)
    trainer, evaluator = build_trainer(state, model), build_evaluator(run)
    train_loader, val_loader = loaders
    model.train()

    @trainer.on(Events.EXCEPTION_RAISED)
    def save_last_step(error: BaseException) -> None:
        state.salvage(error)
        raise error

    @trainer.on(Events.ITERATION_COMPLETED)
    def follow() -> None:
        epoch = at.epoch
        if validates := state.advance():
            state.update.swap()
            run.module.eval()
            state.validated(evaluator.run(val_loader).metrics["sums"])
            model.train()
        if validates and state.done:
            trainer.terminate()
        elif at.epoch > epoch:
            trainer.terminate_epoch()  # an epoch that was resumed is shorter than Ignite thinks

    if idist.get_rank() == 0 and sys.stderr.isatty():
        seldom = Events.ITERATION_COMPLETED(every=run.cfg.log_every)  # drawing takes as long as a small step
        handlers.ProgressBar(persist=False).attach(trainer, event_name=seldom)
    # Ignite counts from where the run is; `State` knows when it ends.
    trainer.load_state_dict({"epoch": at.epoch, "epoch_length": at.num_batches, "max_epochs": sys.maxsize})
    trainer.run(train_loader)
