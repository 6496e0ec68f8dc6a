"""How files that were saved by an earlier version of this project are read by this one.

To change what a checkpoint or `best.pt` holds, raise `SCHEMA` by one and register, under the number before
it, a function that turns the old content into the new.
"""

from collections.abc import Callable
from typing import Any

from .config import UserError

SCHEMA = 4  # of what is saved now; manifests and best.json say with which one their file was

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # BatchNorm's, which are no weights

State = dict[str, Any]
Migrations = dict[int, Callable[[State], State]]


def _fuse(state: State) -> State:
    """Up to schema 2 only float32 had a fused optimizer."""
    for group in _optimizer(state)["param_groups"]:
        group |= {"fused": True, "foreach": None}
    return state


def _move(state: State) -> State:
    """Up to schema 3 the average of the weights stood beside the optimizer, which has matrices first."""
    if "callbacks" in state:  # one of which had the best scores
        state["best"] = state["callbacks"]["KeepBest"]
    average = [weight for name, weight in state.pop("average", {}).items() if not name.endswith(BUFFERS)]
    average.sort(key=lambda weight: weight.ndim <= 1)
    for slot, weight in zip(_optimizer(state)["state"].values(), average, strict=bool(average)):
        slot["average"] = weight
    return state


def _optimizer(state: State) -> Any:
    return state["optimizer"] if "optimizer" in state else state["optimizer_states"][0]


NO_LOSS = {"train_loss": {"total": 0.0, "weight": 0.0}}  # since the last point of the curve, as in schema 1
CHECKPOINTS: Migrations = {1: lambda state: state | NO_LOSS, 2: _fuse, 3: _move}
WEIGHTS: Migrations = {}  # of best.pt: rename a parameter here when its module gets another name


def migrate(content: State, schema: int, migrations: Migrations, name: object) -> State:
    """Bring a file's content to the present schema; raises `UserError` for one of a later version."""
    if schema > SCHEMA:
        raise UserError(f"{name}: schema {schema} is of a later version of this project. Update it.")
    for old in range(schema, SCHEMA):
        content = migrations[old](content) if old in migrations else content
    return content
