"""States on disk: there whole or not at all, and checked when they are read."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .config import UserError

SCHEMA = 1  # of checkpoints and of best.pt; a later one would say how to read this
KEEP = 2  # newest checkpoints of a run: if the last one is damaged, there is another


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to; it takes the place of `path` once all of it is on the disk."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `step-00000080.pt` and its manifest `step-00000080.json`; delete the oldest."""
    with replacing(path) as temporary:
        torch.save(state, temporary)
        step = int(path.stem.removeprefix("step-"))
        manifest = {"schema": SCHEMA, "step": step, "sha256": _sha256(temporary), "torch": torch.__version__}
        save_json(path.with_suffix(".json"), manifest)
    for old in sorted(path.parent.glob("step-*.pt"))[:-KEEP]:
        old.unlink()
        old.with_suffix(".json").unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raises `UserError` when it is not what its manifest says, or is none."""
    manifest = path.with_suffix(".json")
    if manifest.exists() and json.loads(manifest.read_text())["sha256"] != _sha256(path):
        raise UserError(f"{path}: this checkpoint is damaged. Resume from the one before it.")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zip or torch
        raise UserError(f"{path}: this is no checkpoint that can be read ({type(error).__name__}).") from None
    return state


def load_weights(net: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into the network, or say in a `UserError` why those in `path` do not fit."""
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: it holds another model. Give the --model settings it had. {reason}"
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
