"""All that training changes, and what follows each of its steps: the same in both frameworks."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from .. import seeding
from ..config import Config
#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import LOG, UserError, checked
from ..interface import Data
from ..runs import files, metrics
from ..runs.best import Best
from ..runs.progress import Progress
from . import signals
from .checks import check_scores
from .module import TrainingModule
from .optim import Update

Report = Callable[[int, float], None] | None  # called with (samples trained on, score) after each validation


@dataclass(frozen=True)
class Run:
    """What a run is made of before its model is on its device."""

    cfg: Config
    data: Data
    module: TrainingModule
    progress: Progress
    best: Best
    scaler: GradScaler
    stop: signals.Stop
    sinks: list[metrics.Sink]
    report: Report = None
    saved: dict[str, Any] | None = None  # the checkpoint that it continues from


class MeanLoss:
    """The mean training loss since it was logged last; nothing waits for the device before it is read."""

    def __init__(self) -> None:
        self.sum, self.parts = torch.zeros(2, dtype=torch.float64), list[tuple[Tensor, Tensor]]()
        self.kept = 0  # parts of steps that are complete

    def read(self) -> list[float]:
        """The sum and the count."""
        if self.parts:
            totals, counts = (torch.stack(part).double().sum() for part in zip(*self.parts, strict=True))
            self.sum += torch.stack([totals, counts.to(totals.device)]).cpu()
            self.parts.clear()
            self.kept = 0
        #: if strategy == "single"
        return self.sum.tolist()


        #: endif
        #: if strategy != "single"
        return processes.add_up(self.sum.clone()).tolist()


#: endif
class State:
    """A run as it trains: what moves the weights, and how far it has come. A checkpoint holds it."""

    def __init__(self, run: Run, update: Update) -> None:
        self.run, self.update, self.losses = run, update, {name: MeanLoss() for name in update.losses}
        update.set_rate(run.progress)
        if run.saved:
            self.load(run.saved)
        check_scores(run.module, run.data, compiled=run.cfg.compile)

    @property
    def done(self) -> bool:
        """Whether the goal is reached, or scores have not improved for too long."""
        return self.run.progress.done or self.run.best.stopped

    def begin(self, *part: int) -> None:
        """Before a batch, or a part of its step: random numbers are a function of where the run is."""
        at = self.run.progress
        #: if strategy == "single"
        seeding.seed_step(at.cfg.seed, at.epoch, at.samples, 0, *part)  # 0 is the rank where there are several

        #: endif
        #: if strategy != "single"
        seeding.seed_step(at.cfg.seed, at.epoch, at.samples, processes.rank(), *part)

    #: endif
    def count(self, total: Tensor, count: Tensor, name: str = "train/loss") -> None:
        """Keep the loss of a batch until it is logged."""
        self.losses[name].parts.append((total.detach(), count))

    def advance(self) -> bool:
        """After a batch: count it, and after an optimizer step log, save or end. Returns whether to validate now."""
        at, cfg = self.run.progress, self.run.cfg
        if not at.advance():
            return False
        for loss in self.losses.values():
            loss.kept = len(loss.parts)
        self.update.set_rate(at)
        logs = at.steps % cfg.log_every == 0
        if logs:
            self.log()
        if at.validates:
            return True
        failed = self.update.failed_step() if logs else 0
        #: if strategy == "single"
        code = self.run.stop.code
        #: endif
        #: if strategy != "single"
        code = self.run.stop.agree()
        #: endif
        if code or failed or (cfg.save_every and at.steps % cfg.save_every == 0):
            self.save()
        end(self.run.cfg, code, failed)
        return False

    def log(self) -> None:
        sums = {name: loss.read() for name, loss in self.losses.items()}
        self.losses = {name: MeanLoss() for name in sums}
        values = {name: total / count if count else 0.0 for name, (total, count) in sums.items()}
        metrics.send(self.run.sinks, self.run.progress.steps, values | {"lr": self.update.rate})

    def validated(self, sums: dict[str, Tensor]) -> None:
        """After a validation with the averages of the weights: score it, keep the best, save."""
        run, at = self.run, self.run.progress
        objective, sums = run.module.objective, {name: value.cpu() for name, value in sums.items()}
        scores = objective.scores(sums)
        metrics.send(run.sinks, at.steps, {f"val/{name}": score for name, score in scores.items()})
        run.best.offer(scores, run.module.net, sums)
        self.update.swap()
        at.judge(run.best.sign * scores[objective.monitor])
        self.update.set_rate(at)
        self.save()
        if run.report:
            run.report(at.seen, scores[objective.monitor])
        #: if strategy == "single"
        end(run.cfg, run.stop.code, self.update.failed_step())

        #: endif
        #: if strategy != "single"
        end(run.cfg, run.stop.agree(wait=True), self.update.failed_step())

    #: endif
    def salvage(self, error: BaseException) -> None:
        """Save the state after the last step, if an error leaves it whole: in the middle of an update it is not."""
        #: if strategy != "single"
        if processes.world_size() > 1:  # others, without which it is not whole, may have ended
            return
        #: endif
        at = self.run.progress
        if not isinstance(error, Exception) or isinstance(error, UserError):
            return
        if at.steps and not at.validates and not self.update.has_begun(at.steps + 1):
            for loss in self.losses.values():
                del loss.parts[loss.kept :]
            self.save()

    def save(self) -> None:
        """Write a checkpoint: plain tensors and numbers, the same for both frameworks."""
        run = self.run
        content = {
            "fingerprint": [run.data.train.fingerprint, len(run.data.train)],
            "module": run.module.state_dict(),
            "update": self.update.state_dict(),
            "scaler": run.scaler.state_dict(),
            "losses": {name: loss.read() for name, loss in self.losses.items()},
            "progress": run.progress.state_dict(),
            "best": run.best.state_dict(),
        }
        #: if strategy != "single"
        if processes.rank() > 0:  # all processes take part in the content
            return
        #: endif
        files.save_checkpoint(run.cfg.folder / "checkpoints" / f"step-{run.progress.steps:08d}.pt", content)

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint; the weights are loaded already."""
        with checked(f"resume={self.run.cfg.resume}"):
            self.update.load_state_dict(saved.pop("update"))  # popped, so that memory can be freed
            if saved["scaler"] and self.run.scaler.is_enabled():
                self.run.scaler.load_state_dict(saved["scaler"])
            #: if strategy != "single"
            if processes.rank() > 0:  # the loss of all processes is with the first
                return
            #: endif
            for name, loss in self.losses.items():
                loss.sum += torch.tensor(saved["losses"][name], dtype=torch.float64)


def end(cfg: Config, code: int, failed: int) -> None:
    """End the run, whose state is saved, with the exit code that a signal asks for, or because a step failed."""
    #: if strategy != "single"
    if code or failed:
        processes.wait_for_first()  # which may still save: a launcher ends all others with the first that leaves
    #: endif
    resume = f"--config {shlex.quote(str(cfg.folder / 'config.yaml'))} --resume auto"
    if failed:
        hint = f"{resume} continues after it; if that happens again, lower --optim.lr or look for bad samples"
        raise UserError(f"step {failed}: its gradient was not finite, so it was left out. {hint}.")
    if code:
        LOG.warning("A signal ends this run. Continue it with %s.", resume)
        raise SystemExit(code)
