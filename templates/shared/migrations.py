"""How files that were saved by an earlier version of this project are read by this one.

To change what a checkpoint or `best.pt` holds, raise `SCHEMA` by one and register, under the number before
it, a function that turns the old content into the new.
"""

import math
from collections.abc import Callable
from typing import Any

from .config import UserError

SCHEMA = 5  # of what is saved now; manifests and best.json say with which one their file was

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # BatchNorm's, which are no weights

State = dict[str, Any]
Migrations = dict[int, Callable[[State], State]]


def _move(state: State) -> State:
    """Up to schema 3 the average of the weights stood beside the optimizer, which has matrices first."""
    if "callbacks" in state:  # one of which had the best scores
        state["best"] = state["callbacks"]["KeepBest"]
    average = [weight for name, weight in state.pop("average", {}).items() if not name.endswith(BUFFERS)]
    average.sort(key=lambda weight: weight.ndim <= 1)
    for slot, weight in zip(_optimizer(state)["state"].values(), average, strict=bool(average)):
        slot["average"] = weight
    return state


def _count(state: State) -> State:
    """Up to schema 4 the frameworks counted, and no samples."""
    if "loops" in state:
        ended = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
        steps, epoch, schedule = state["global_step"], state["epoch"] + ended, state["lr_schedulers"][0]
    else:
        engine, schedule = state["trainer"], state["schedule"]
        steps, epoch = engine["step"], engine["iteration"] // engine["epoch_length"]
    progress = {"steps": steps, "epoch": epoch, "samples": -1, "scale": _optimizer(state)["param_groups"][0]["lr"]}
    progress |= {"best": schedule.get("best", math.inf), "waited": schedule.get("num_bad_epochs", 0)}
    return state | {"progress": progress}


def _optimizer(state: State) -> Any:
    return state["optimizer"] if "optimizer" in state else state["optimizer_states"][0]


# Schema 1 had no loss since the last point of the curve.
CHECKPOINTS: Migrations = {1: lambda state: state | {"train_loss": {"total": 0.0, "weight": 0.0}}, 3: _move, 4: _count}
WEIGHTS: Migrations = {}  # of best.pt: rename a parameter here when its module gets another name


def migrate(content: State, schema: int, migrations: Migrations, name: object) -> State:
    """Bring a file's content to the present schema; raises `UserError` for one of a later version."""
    if schema > SCHEMA:
        raise UserError(f"{name}: schema {schema} is of a later version of this project. Update it.")
    for old in sorted(old for old in migrations if old >= schema):
        content = migrations[old](content)
    return content
