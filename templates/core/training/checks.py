"""What a task must return. A mistake shows at the start, in a line that names the function."""

import json
import pickle
from contextlib import nullcontext
from os import devnull
from typing import Any

import torch
from torch import Tensor

from .. import seeding
from ..config import Config
from ..errors import UserError
from ..interface import INTERFACE, Data
from ..task import INTERFACE as WRITTEN_FOR
from ..task.objective import Objective

MOST_ABOUT = 2**16  # bytes


def check_interface() -> None:
    """See whether the task was written for this version of the interface."""
    if WRITTEN_FOR != INTERFACE:
        raise UserError(f"task.INTERFACE is {WRITTEN_FOR}; this project has {INTERFACE}. See the guide of its release.")


def check_data(data: Data, cfg: Config) -> None:
    """See whether `about` is plain JSON, sources return batches, and loader processes can have them."""
    try:
        text = json.dumps(data.about, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"open_data: `about` has to be plain JSON ({error}).") from None
    if json.loads(text) != data.about:
        raise UserError("open_data: `about` has to be plain JSON: lists in place of tuples, and texts as keys.")
    if len(text) > MOST_ABOUT:
        raise UserError(f"open_data: `about` has {len(text)} bytes, {MOST_ABOUT} at most. Put files into `assets`.")
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


def check_objective(objective: Objective) -> None:
    """See whether the score that `objective.monitor` names is there, and which way each one is better."""
    #: if optimizers == "one"
    if phases := getattr(objective, "phases", ()):
        raise UserError(f"Objective.phases={phases}: this project has one optimizer: mlscaffold set optimizers=several")
    #: endif
    #: if optimizers == "several"
    if getattr(objective, "phases", ()) and not hasattr(objective, "groups"):
        raise UserError("Objective.phases needs Objective.groups(net, phase): the parameters that each phase trains.")
    #: endif
    if set(objective.directions.values()) - {"min", "max"}:
        raise UserError(f"Objective.directions: give min or max for each score. Got {objective.directions}.")
    if objective.monitor not in objective.directions:
        known = ", ".join(objective.directions)
        raise UserError(f"objective.monitor={objective.monitor}: Objective.directions has {known}. Give one of these.")


def check_loss(returned: Any) -> tuple[Tensor, Tensor]:
    """What `Objective.loss` returned, if it is a sum and a count."""
    if not isinstance(returned, tuple) or [getattr(part, "ndim", None) for part in returned] != [0, 0]:
        raise UserError("Objective.loss: return two scalar tensors, the loss summed over the batch and its count.")
    if torch.is_grad_enabled() and not returned[0].requires_grad and returned[1] > 0:
        raise UserError("Objective.loss: return a sum that has a gradient. This one was detached from the weights.")
    return returned


@torch.no_grad()
def check_scores(module: Any, data: Data, *, compiled: bool) -> None:
    """Measure two samples, and see whether all scores are there; a compiled network is not compiled for that."""
    batch = data.val.batch([0, len(data.val) - 1], None)
    batch = {name: value.to(module.tally.device) for name, value in batch.items()}
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():  # which takes a second to import
        sums = module.eval()(batch, generator=seeding.generator(0))
    module.train()
    if not isinstance(sums, dict) or not all(isinstance(value, Tensor) for value in sums.values()):
        raise UserError("Objective.measure: return a dict of tensors, by name: sums over the batch.")
    scores = module.objective.scores({name: value.cpu() for name, value in sums.items()})
    if missing := module.objective.directions.keys() - scores.keys():
        raise UserError(f"Objective.scores lacks {', '.join(sorted(missing))}, which Objective.directions names.")
