"""Network and objective as one module, and what a task has to give for it."""

import json
import pickle
from os import devnull
from typing import Any

import torch
from torch import Tensor, nn

from .. import seeding
from ..config import Config
from ..errors import UserError
from ..interface import INTERFACE, Batch, Data
from ..task import INTERFACE as WRITTEN_FOR
from ..task.data import open_data
from ..task.model import build
from ..task.objective import Objective

MOST_ABOUT = 2**16  # bytes


class TrainingModule(nn.Module):
    """Its forward is the loss, and it is what DDP and FSDP wrap.

    So a loss may call any part of the network, and parameters of the objective are trained and saved as well.
    """

    def __init__(self, net: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.net, self.objective = net, objective
        self.tally = nn.Parameter(torch.zeros(1))  # always 0, and in no optimizer: its gradient is the count

    #: if optimizers == "one"
    def forward(self, batch: Batch, *, generator: torch.Generator | None = None) -> Any:
        """The sum of the loss and its count; with a generator, the sums that `Objective.measure` gives."""
        if generator is not None:
            return self.objective.measure(self.net, batch, generator)
        total, count = check_loss(self.objective.loss(self.net, batch))
        return total + self.tally.squeeze() * count, count

    #: endif
    #: if optimizers == "several"
    def forward(self, batch: Batch, *phase: str, generator: torch.Generator | None = None) -> Any:
        """The sum of the loss of a phase and its count; with a generator, the sums that `Objective.measure` gives."""
        if generator is not None:
            return self.objective.measure(self.net, batch, generator)
        total, count = check_loss(self.objective.loss(self.net, batch, *phase))
        return total + self.tally.squeeze() * count, count

    #: endif
    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.tally.device


def build_module(cfg: Config, data: Data) -> TrainingModule:
    """The network with its first weights, and the objective."""
    torch.manual_seed(cfg.seed)
    objective = build_objective(cfg, data)
    return TrainingModule(build(cfg.model, data.about, data.assets, init=True), objective)


def build_objective(cfg: Config, data: Data) -> Objective:
    """The objective; raises `UserError` if it has no score of the name that `objective.monitor` gives."""
    objective = Objective(cfg.objective, data.about)
    if objective.monitor not in objective.directions:
        known = ", ".join(objective.directions)
        raise UserError(f"objective.monitor={objective.monitor}: Objective.directions has {known}. Give one of these.")
    #: if optimizers == "one"
    if phases := getattr(objective, "phases", ()):
        raise UserError(f"Objective.phases={phases}: this project has one optimizer: mlscaffold set optimizers=several")
    #: endif
    return objective


def load_data(cfg: Config) -> Data:
    """The task's data; raises `UserError` where it is not what `interface` says."""
    if WRITTEN_FOR != INTERFACE:
        raise UserError(f"task.INTERFACE is {WRITTEN_FOR}; this project has {INTERFACE}. See the guide of its release.")
    data = open_data(cfg.data)
    try:
        size = len(json.dumps(data.about, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"open_data: `about` has to be plain JSON ({error}).") from None
    if size > MOST_ABOUT:
        raise UserError(f"open_data: `about` has {size} bytes, {MOST_ABOUT} are the most. Put files into `assets`.")
    check_batch(data, cfg)
    return data


def check_batch(data: Data, cfg: Config) -> None:
    """See whether sources give batches, and can be sent to loader processes."""
    for source, augment in ((data.train, True), (data.val, False)):
        indices = [0, len(source) - 1]
        batch: Any = source.batch(indices, seeding.sample_seeds(cfg.seed, 0, indices) if augment else None)
        if not isinstance(batch, dict):
            raise UserError(f"Source.batch: return a dict of tensors, by name. Got a {type(batch).__name__}.")
        shapes = {name: [*getattr(value, "shape", [])] for name, value in batch.items()}
        if {tuple(shape[:1]) for shape in shapes.values()} != {(2,)}:
            wanted = "two samples were asked for; each tensor needs as many rows"
            raise UserError(f"Source.batch: {wanted}. Got {shapes}.")
    if cfg.data.num_workers:
        try:
            with open(devnull, "wb") as nowhere:  # noqa: PTH123
                pickle.dump((data.train, data.val), nowhere)
        except Exception as error:  # whatever a source holds
            wanted = f"with data.num_workers={cfg.data.num_workers} a source has to pickle ({error})"
            raise UserError(f"open_data: {wanted}. Open files in `batch`, or set data.num_workers=0.") from None


def check_loss(returned: Any) -> tuple[Tensor, Tensor]:
    """What `Objective.loss` returned, if it is a sum and a count."""
    if not isinstance(returned, tuple) or [getattr(part, "ndim", None) for part in returned] != [0, 0]:
        raise UserError("Objective.loss: return two scalar tensors, the loss summed over the batch and its count.")
    return returned


def check_scores(module: TrainingModule, scores: dict[str, float]) -> None:
    if missing := module.objective.directions.keys() - scores.keys():
        raise UserError(f"Objective.scores lacks {', '.join(sorted(missing))}, which Objective.directions names.")
