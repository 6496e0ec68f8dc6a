"""States on disk: there whole or not at all, and checked when they are read."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import migrations
from .config import LOG, UserError, checked

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
                raise UserError(f"{path}: {err}. Mend that and try again; a run goes on with --resume auto.") from err
            LOG.warning("%s: NOT SAVED (%s). The next try is in %d s.", path, err, pause_s)
            time.sleep(pause_s)


def append(path: Path, text: str, end: int) -> None:
    """Write at the end of a file, also if a part of the text is there by now."""
    with path.open("r+") as file:
        file.seek(end)
        file.write(text)


def save(path: Path, write: Callable[[Path], object]) -> None:
    """Let a function write to a temporary name, which takes the place of `path` once all of it is on the disk."""
    temporary = path.with_name(f"{path.name}.{os.environ.get('RANK', 0)}.tmp")  # several processes may save the same

    def replace() -> None:
        try:
            write(temporary)
            _sync(temporary)
            temporary.replace(path)
            if sys.platform != "win32":
                _sync(path.parent)  # the name, too, has to outlive a power cut
        finally:
            temporary.unlink(missing_ok=True)

    insist(path, replace)


def save_text(path: Path, content: str) -> None:
    save(path, lambda temporary: temporary.write_text(content))


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    save_text(path, json.dumps(content, indent=2) + "\n")


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    save(path, lambda temporary: torch.save(weights, temporary))


def save_checkpoint(path: Path, state: Mapping[str, Any], library: str) -> None:
    """Write `step-00000080.pt` and its manifest `step-00000080.json`; delete the oldest."""
    versions = {name: version(name) for name in ("torch", library)}
    manifest: dict[str, Any] = {"schema": migrations.SCHEMA, "step": _step(path), "versions": versions}

    def write(temporary: Path) -> None:
        torch.save(state, temporary)
        manifest["sha256"] = sha256(temporary)
        save_json(path.with_suffix(".json"), manifest | {"seal": _seal(manifest)})

    save(path, write)
    tidy(path.parent)


def tidy(folder: Path, last: int = sys.maxsize) -> None:
    """Delete all but the newest checkpoints up to step `last`, and what a save that was killed has left."""
    names = sorted(path.stem for path in folder.glob(f"{FILES}.pt") if _step(path) <= last)[-KEEP:]
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
    """What is wrong with a checkpoint or its manifest; nothing if it is as it was saved."""
    try:
        manifest = json.loads(path.with_suffix(".json").read_text())
        seal = manifest.pop("seal", None)
        # Schema 1 had no seal.
        if (manifest["step"], seal) != (_step(path), _seal(manifest) if manifest["schema"] > 1 else None):
            return f"its manifest has changed, or is that of step {manifest['step']}"
        return "" if manifest["sha256"] == sha256(path) else "its content has changed"
    except Exception as error:  # whatever somebody wrote there
        return f"its manifest cannot be read ({error!r})"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, also one of an earlier version; raises `UserError` if it is not as it was saved."""
    if wrong := damage(path):
        raise UserError(f"{path}: this checkpoint is damaged: {wrong}. Give never, auto, or another one.")
    with checked(path):
        state = torch.load(path, map_location="cpu", weights_only=True)
        schema = json.loads(path.with_suffix(".json").read_text())["schema"]
        return migrations.migrate(state, schema, migrations.CHECKPOINTS, path)


def load_best(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `best.json` says, and the weights in `best.pt`."""
    best = json.loads((run / "best.json").read_text())
    weights = torch.load(run / "best.pt", map_location="cpu", weights_only=True)
    return best, migrations.migrate(weights, best["schema"], migrations.WEIGHTS, run / "best.pt")


def load_weights(net: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into the network, or say in a `UserError` why those in `path` do not fit."""
    with checked(path, "If this is another model, give its --model settings."):
        net.load_state_dict(weights)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(manifest: Mapping[str, Any]) -> str:
    """By which a change in the manifest itself is found."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
