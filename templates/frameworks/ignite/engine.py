"""The two engines: one trains the model, one measures it."""

import logging
import sys

import torch
from ignite import distributed as idist
from ignite import handlers
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from torch import Tensor

from .. import seeding
#: if strategy != "single"
from ..distributed import parallel
#: endif
from ..interface import Batch
#: if strategy != "single"
from ..task.model import blocks
#: endif
from .loading import Loader, to_device
from .state import Run
from .step import build_state, build_trainer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Sums(Metric):
    """Adds up what `Objective.measure` returns for each batch."""

    def reset(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def update(self, output: tuple[dict[str, Tensor]]) -> None:
        for name, value in output[0].items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def compute(self) -> dict[str, Tensor]:
        return {name: torch.as_tensor(idist.all_reduce(value.clone())) for name, value in self.sums.items()}


def build_evaluator(run: Run, autocast: torch.autocast) -> Engine:
    """An engine whose step measures a batch; `state.metrics["sums"]` has the sums of all."""

    @torch.inference_mode()
    def step(engine: Engine, batch: Batch) -> tuple[dict[str, Tensor]]:
        generator = seeding.generator(engine.state.iteration, idist.get_rank())
        with autocast:
            sums = run.module(to_device(batch, idist.device()), generator=generator)
        return (sums,)  # Ignite would take a bare dict for predictions and targets

    evaluator = Engine(step)
    Sums().attach(evaluator, "sums")
    return evaluator


def fit(run: Run, loaders: tuple[Loader, Loader]) -> None:
    """Train and validate until the goal is reached, or the run ends early."""
    logging.getLogger("ignite").setLevel(logging.CRITICAL)  # an error is shown once, where it ends the run
    #: if strategy == "single"
    model = run.module.to(idist.device())
    #: endif
    #: if strategy != "single"
    model = parallel.distribute(run.module, run.module.tally, blocks(run.module.net))
    #: endif
    at, state = run.progress, build_state(run)
    autocast = torch.autocast(idist.device().type, DTYPES[run.cfg.precision], enabled=run.cfg.precision != "fp32")
    trainer, evaluator = build_trainer(state, model, autocast), build_evaluator(run, autocast)
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
    # Ignite counts from where the run is; `State` ends it, and no later than with its last epoch.
    trainer.load_state_dict({"epoch": at.epoch, "epoch_length": at.num_batches, "max_epochs": run.cfg.epochs})
    trainer.run(train_loader)
