"""States on disk: written atomically, and checked when they are read."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LOG, UserError, checked

FORMAT = 1  # of checkpoints and of best.json; raise it with a migration when either changes
PACKAGE = __package__.partition(".")[0]
NO_SCORE = "No validation gave a score, or the file is damaged."  # where best.json cannot be used
KEEP = 2  # newest checkpoints of a run: if the last one is damaged, there is another
PAUSES_S = (1, 4, 16)  # before a save that failed is tried again
FILES = "step-" + 8 * "[0-9]"  # by name, so that whatever else lies beside them is left alone


def insist(path: Path, write: Callable[[], object]) -> None:
    """Write a file; what fails is tried again, as often as there are `PAUSES_S`, and is then a `UserError`."""
    for pause_s in (*PAUSES_S, 0):
        try:
            write()
            break
        except (OSError, RuntimeError) as err:  # torch's own writer raises the second
            if not pause_s:
                raise UserError(f"{path}: {err}. Mend that and try again; --resume auto continues a run.") from err
            LOG.warning("%s: NOT SAVED (%s). The next try is in %d s.", path, err, pause_s)
            time.sleep(pause_s)


def append(path: Path, text: str, end: int) -> None:
    """Write at the end of a file, also if a part of the text is there by now."""
    with path.open("r+") as file:
        file.seek(end)
        file.write(text)


def save(path: Path, write: Callable[[Path], object]) -> None:
    """Let a function write to a temporary name, which takes the place of `path` once all of it is on the disk."""
    temporary = path.with_name(f"{path.name}.tmp")

    def replace() -> None:
        try:
            write(temporary)
            _sync(temporary)
            temporary.replace(path)
            with suppress(OSError):  # Windows cannot, nor can some file systems
                _sync(path.parent)  # the name, too, has to outlive a power cut
        finally:
            temporary.unlink(missing_ok=True)

    insist(path, replace)


def save_text(path: Path, content: str) -> None:
    save(path, lambda temporary: temporary.write_text(content, "utf-8"))


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    save_text(path, json.dumps(content, indent=2) + "\n")


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    save(path, lambda temporary: torch.save(weights, temporary))


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `step-00000080.pt`, and beside it a manifest, which holds its hash; delete the oldest."""
    about = {"format": FORMAT, "step": step_of(path), "versions": {"torch": str(torch.__version__)}}

    def write(temporary: Path) -> None:
        torch.save({**state, **about}, temporary)
        save_json(path.with_suffix(".json"), {"sha256": sha256(temporary)})

    save(path, write)
    tidy(path.parent)


def tidy(folder: Path, last: int = sys.maxsize) -> None:
    """Delete all but the newest checkpoints up to step `last`, and what a save that was killed has left."""
    names = sorted(path.stem for path in folder.glob(f"{FILES}.pt") if step_of(path) <= last)[-KEEP:]
    for file in (f for f in folder.glob(f"{FILES}.*") if f.name.partition(".")[0] not in names or f.suffix == ".tmp"):
        file.unlink()


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, or None if there is none at all; says which ones are damaged."""
    paths = sorted(folder.glob(f"{FILES}.pt"), reverse=True)
    for path in paths:
        if not (wrong := damage(path)):
            return path
        LOG.warning("%s: this checkpoint is damaged: %s. The one before it is used.", path, wrong)
    if paths:
        raise UserError(f"{folder}: no checkpoint in it is whole. Start anew with another --out_dir.")
    return None


def damage(path: Path) -> str:
    """What is wrong with a checkpoint; nothing if it is as it was saved."""
    try:
        saved = json.loads(path.with_suffix(".json").read_text())["sha256"]
    except Exception as error:  # whatever somebody wrote there
        return f"its manifest cannot be read ({error!r})"
    return "" if saved == sha256(path) else "it is not what its manifest was written for"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raises `UserError` if it is not as it was saved, or of another version of this project."""
    if wrong := damage(path):
        raise UserError(f"{path}: this checkpoint is damaged: {wrong}. Give never, auto, or another one.")
    with checked(path):
        state = torch.load(path, map_location="cpu", weights_only=True)
        return check_format(state, path, path.parent.parent)


def check_format(content: dict[str, Any], path: Path, run: Path) -> dict[str, Any]:
    """What a file of a run holds, if this version of the project wrote it, or an earlier one that it still reads."""
    if (found := content.get("format", 0)) == FORMAT:
        return content
    if found > FORMAT:
        raise UserError(f"{path}: a later version of this project wrote it. Update the project.")
    hint = f"A new run can start from its weights: python -m {PACKAGE}.train --init_from {run}"
    raise UserError(f"{path}: a release before 0.8 of the template wrote it. {hint}")


def read_best(run: Path) -> dict[str, Any]:
    """What `best.json` says."""
    return check_format(json.loads((run / "best.json").read_text()), run / "best.json", run)


def load_best(run: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `best.json` says, and the weights in `best.pt`; raises `UserError` where there are none."""
    with checked(f"run={run}: best.pt or best.json", "Train first, or name a run with --run."):
        return read_best(run), torch.load(run / "best.pt", map_location="cpu", weights_only=True)


def load_weights(net: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a module, or say in a `UserError` why those in `path` do not fit."""
    with checked(path, "If this is another model, give its --model settings."):
        net.load_state_dict(weights)


def step_of(path: Path) -> int:
    """The optimizer step of a checkpoint."""
    return int(path.stem.removeprefix("step-"))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
