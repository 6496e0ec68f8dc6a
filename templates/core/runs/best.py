"""The best weights of a run."""

import hashlib
import math
from typing import Any

from torch import Tensor, nn

from ..config import Config
#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import checked
from ..interface import INTERFACE, Data
from ..task.objective import Objective
from . import files
from .progress import Progress


class Best:
    """Keeps the weights with the best score; `best.pt` holds them, `best.json` says what they are.

    If a run keeps several, `best/step-00000080.pt` is one of them.
    """

    def __init__(self, cfg: Config, data: Data, objective: Objective, at: Progress, saved: Any = None) -> None:
        """With a checkpoint of the run, it is continued."""
        self.cfg, self.objective, self.monitor, self.at = cfg, objective, objective.monitor, at
        self.sign = 1 if objective.directions[self.monitor] == "max" else -1
        assets = {name: hashlib.sha256(content).hexdigest() for name, content in data.assets.items()}
        self.about = {"format": files.FORMAT, "interface": INTERFACE, "about": data.about, "assets": assets}
        self.kept: list[tuple[float, int]] = []  # scores and steps, the best first
        self.waited = 0  # validations since the best one
        if saved and (cfg.folder / "best.json").exists():  # else it is another run's checkpoint
            with checked(f"resume={cfg.resume}"):
                self.kept = [(float(score), int(step)) for score, step in saved["best"]["kept"]]
                self.waited = int(saved["best"]["waited"])
                # A run that was stopped early and has another goal now has all of its patience again.
                self.waited *= not self.stopped or saved["best"]["goal"] == at.goal

    @property
    def stopped(self) -> bool:
        """Whether scores have not improved for too long."""
        return 0 < self.cfg.patience <= self.waited

    def offer(self, scores: dict[str, float], net: nn.Module, sums: dict[str, Tensor]) -> None:
        """Keep these weights if their score is better than one of those kept; one that is not a number never is."""
        score, step = scores[self.monitor], self.at.steps
        ranked = sorted([*self.kept, (score, step)], key=lambda kept: (-self.sign * kept[0], kept[1]))
        self.waited += 1
        if math.isnan(score) or (score, step) in ranked[self.cfg.keep_best :]:
            return
        self.kept, dropped = ranked[: self.cfg.keep_best], ranked[self.cfg.keep_best :]
        first = self.kept[0][1] == step
        self.waited *= not first
        weights, learned = net.state_dict(), self.objective.state_dict()
        #: if strategy != "single"
        if processes.rank() > 0:  # where weights are sharded, all processes take part up to here
            return
        #: endif
        if self.cfg.keep_best > 1:
            folder = self.cfg.folder / "best"
            folder.mkdir(exist_ok=True)
            files.save_weights(folder / f"step-{step:08d}.pt", weights)
            for _, worse in dropped:
                (folder / f"step-{worse:08d}.pt").unlink(missing_ok=True)
        if first:
            files.save_weights(self.cfg.folder / "best.pt", weights)
            if [*self.objective.parameters()]:  # which scores may need, and predictions do not
                files.save_weights(self.cfg.folder / "objective.pt", learned)
            facts = {"monitor": self.monitor, "score": score, "step": step, "epoch": self.at.shown_epoch}
            files.save_weights(self.cfg.folder / "sums.pt", sums)  # which pictures are drawn from
            files.save_json(self.cfg.folder / "best.json", self.about | facts | {"scores": scores})

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "waited": self.waited, "goal": self.at.goal}
