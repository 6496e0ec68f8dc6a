"""Where a run is, and how far it has to go."""

import math
import sys
from typing import Any

from .config import Config, UserError
from .processes import world_size

START = {"steps": 0, "epoch": 0, "samples": 0, "scale": 1.0, "best": math.inf, "waited": 0}


class Progress:
    """`steps` optimizer steps are done; they trained on `epoch` whole epochs, and on `samples` of the one after them.

    That, and what a plateau has come to, is what a checkpoint holds. All else follows from it and from the settings of
    today, so a run comes to its goal with another batch, number of processes or goal as well.
    """

    def __init__(self, num_samples: int, cfg: Config, saved: dict[str, Any] = START) -> None:
        self.num_samples, self.cfg, self.steps, self.epoch = num_samples, cfg, saved["steps"], saved["epoch"]
        self.scale, self.best, self.waited = saved["scale"], saved["best"], saved["waited"]
        self.taken = cfg.data.batch_size * world_size()  # samples that a batch of all processes takes
        self.num_batches = num_samples // self.taken  # of an epoch; the few samples that are left are skipped
        if self.num_batches == 0:
            few = f"the {num_samples} training images are too few for one step of {world_size()} process(es)"
            raise UserError(f"data.batch_size={cfg.data.batch_size}: {few}. Lower data.batch_size.")
        self.num_steps = math.ceil(self.num_batches / cfg.optim.accumulate)  # of an epoch; the last may be smaller
        samples = saved["samples"]
        if samples < 0:  # up to schema 4 nobody counted them; they follow from the steps if nothing has changed
            samples = (self.steps - self.epoch * self.num_steps) * cfg.optim.accumulate * self.taken
            self.scale /= cfg.optim.lr or 1  # which was the rate itself
            if not 0 <= samples < num_samples:
                raise UserError(f"step {self.steps} is of an earlier version: go on with its batches and processes.")
        self.samples = min(samples, num_samples - self.taken)  # a rest that is too small for a batch is filled up
        self.batches_left = (num_samples - self.samples) // self.taken  # of the epoch after the last step
        self.batches = (self.epoch + 1) * self.num_batches - self.batches_left  # before it, as if all had been as large
        left = (cfg.epochs - self.epoch - 1) * self.num_steps + math.ceil(self.batches_left / cfg.optim.accumulate)
        most = cfg.max_steps if cfg.max_steps > 0 else sys.maxsize
        self.goal = min(self.steps + left, most)  # the step that the run ends with if it is not stopped early
        self.total = min(cfg.epochs * self.num_steps, most)  # steps of a whole run with these settings

    def advance(self, batches: int) -> None:
        """Count an optimizer step on so many batches."""
        self.steps, self.samples = self.steps + 1, self.samples + batches * self.taken
        self.batches, self.batches_left = self.batches + batches, self.batches_left - batches
        if self.batches_left == 0:
            self.epoch, self.samples, self.batches_left = self.epoch + 1, 0, self.num_batches

    def judge(self, loss: float) -> None:
        """Halve the rate of a plateau after three validations that have not made the loss smaller by 1e-4 of it."""
        self.waited += 1
        if loss < self.best * (1 - 1e-4):
            self.best, self.waited = loss, 0
        if self.waited > 2:
            self.scale, self.waited = self.scale / 2, 0

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in START}
