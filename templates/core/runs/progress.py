"""Where a run is, and how far it has to go."""

import math
import sys
from typing import Any

from ..config import Config
#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import UserError

START = {"steps": 0, "epoch": 0, "samples": 0, "scale": 1.0, "best": -math.inf, "waited": 0}


class Progress:
    """`steps` optimizer steps are done; they trained on `epoch` whole epochs, and on `samples` of the one after them.

    That, and the state of a plateau schedule, is what a checkpoint holds. All else follows from it and from the present
    settings, so a run reaches its goal also with another batch size, number of processes or goal.
    """

    def __init__(self, num_samples: int, cfg: Config, saved: dict[str, Any] = START) -> None:
        if cfg.max_steps == 0:
            raise UserError("max_steps=0: there is nothing to train. Give 1 or more, or -1 for no limit.")
        self.num_samples, self.cfg = num_samples, cfg
        self.steps: int = saved["steps"]
        self.epoch: int = saved["epoch"]
        self.scale, self.best, self.waited = saved["scale"], saved["best"], saved["waited"]
        self.window = 0  # batches since the last optimizer step
        self.taken = cfg.data.batch_size  # samples of a batch
        #: if strategy != "single"
        self.taken *= processes.world_size()  # of all processes
        #: endif
        self.num_batches = num_samples // self.taken  # of an epoch; the few samples that are left are skipped
        if self.num_batches == 0:
            few = f"the {num_samples} training samples are too few for one batch of {self.taken}"
            raise UserError(f"data.batch_size={cfg.data.batch_size}: {few}. Lower data.batch_size.")
        self.num_steps = math.ceil(self.num_batches / cfg.optim.accumulate)  # of an epoch; the last may be smaller
        self.samples: int = min(saved["samples"], num_samples - self.taken)  # a rest too small for a batch is filled up
        self.batches_left: int = (num_samples - self.samples) // self.taken  # of this epoch
        left = (cfg.epochs - self.epoch - 1) * self.num_steps + math.ceil(self.batches_left / cfg.optim.accumulate)
        most = cfg.max_steps if cfg.max_steps > 0 else sys.maxsize
        self.goal: int = min(self.steps + left, most)  # the step that the run ends with if it is not stopped early
        self.total = min(cfg.epochs * self.num_steps, most)  # steps of a whole run with these settings

    @property
    def ends_step(self) -> bool:
        """Whether the present batch is the last of its optimizer step."""
        return self.window + 1 == self.cfg.optim.accumulate or self.batches_left == 1

    @property
    def done(self) -> bool:
        return self.steps >= self.goal

    @property
    def validates(self) -> bool:
        """Whether a validation follows the step that has just been made."""
        every = self.cfg.validate_every
        return self.done or (self.steps % every == 0 if every else self.samples == 0)

    @property
    def shown_epoch(self) -> int:
        """The epoch of the last step, counted from 1."""
        return self.epoch + (self.samples > 0)

    @property
    def seen(self) -> int:
        """Samples that the run has trained on, where whole epochs count as such."""
        return self.epoch * self.num_samples + self.samples

    def advance(self) -> bool:
        """Count a batch; return whether it completed an optimizer step."""
        stepped = self.ends_step
        self.window = 0 if stepped else self.window + 1
        self.steps += stepped
        self.samples, self.batches_left = self.samples + self.taken, self.batches_left - 1
        if self.batches_left == 0:
            self.epoch, self.samples, self.batches_left = self.epoch + 1, 0, self.num_batches
        return stepped

    def judge(self, score: float) -> None:
        """Halve the rate of a plateau after three validations that have not improved the score by 1e-4 of it.

        Larger is better.
        """
        self.waited += 1
        if score > self.best + abs(self.best) * 1e-4 or not math.isfinite(self.best):
            self.best, self.waited = score, 0
        if self.waited > 2:
            self.scale, self.waited = self.scale / 2, 0

    def state_dict(self) -> dict[str, Any]:
        """The state after the last optimizer step."""
        now = {name: getattr(self, name) for name in START}
        return now | {"samples": self.samples - self.window * self.taken}
