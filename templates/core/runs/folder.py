"""Which folder a run has, what stands in it at the start, and what at the end."""

import json
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from ..config import Config
from ..errors import UserError, checked
from . import files, origin
from .metrics import MetricsFile

ROOT = Path("runs")


class BusyError(UserError):
    """Another run is at work in the folder, or was while this one began."""


def choose(cfg: Config) -> tuple[Config, Path | None]:
    """The settings with the folder of the run, and the checkpoint that it continues from, if any.

    `out_dir` stays None where the run will be a new one. Raises `UserError` before a run would be overwritten.
    """
    if cfg.resume == "auto" and not cfg.out_dir:
        cfg = replace(cfg, out_dir=_newest())
    path = None if cfg.resume in ("never", "auto") else Path(cfg.resume)
    if not cfg.out_dir:
        return cfg, path
    checkpoints = cfg.out_dir / "checkpoints"
    if cfg.resume == "auto":
        return cfg, files.newest_checkpoint(checkpoints)
    own = path and path.resolve().parent == checkpoints.resolve()  # a run that goes back to an earlier step
    if (cfg.out_dir / "config.yaml").exists() and not own:
        raise UserError(f"out_dir={cfg.out_dir}: it holds a run. Add --resume auto or another --out_dir.")
    return cfg, path


def _newest() -> Path | None:
    """The newest run that is not finished, or else the newest."""
    begun = [run for run in _numbered() if (run / "config.yaml").exists()]
    unfinished = (run for run in begun if "finished" not in _read(run / "run.json"))
    return next(unfinished, next(iter(begun), None))


def _numbered() -> list[Path]:
    """The folders of all numbered runs, the newest first."""
    runs = (path for path in ROOT.glob("[0-9]*") if path.name.isdecimal())
    return sorted(runs, key=lambda path: int(path.name), reverse=True)


def begin(cfg: Config, step: int, about: dict[str, Any], assets: dict[str, bytes]) -> tuple[Config, FileLock]:
    """Make the folder of the run and note the settings; drop what is later than `step`, where it starts.

    Until the lock is released no other process can train there; it ends with its process, however that ends.
    """
    folder = cfg.out_dir or _claim()
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=3)
        lock.acquire()  # loaders of one that was killed need a moment
        # Again, as another run may have been at work there since the first look.
        if cfg.out_dir and (found := choose(cfg)[1]) and cfg.resume == "auto" and found.stem != f"step-{step:08d}":
            raise TimeoutError
        cfg = replace(cfg, out_dir=folder)
        files.tidy(folder / "checkpoints", step)
        files.save_text(folder / "config.yaml", yaml.safe_dump(cfg.plain(), sort_keys=False))
        before = _read(folder / "run.json")
        earlier = [*before.pop("earlier", []), before] if before else []
        files.save_json(folder / "run.json", {**origin.facts(folder), **about, "earlier": earlier})
        for name, content in assets.items():
            (folder / "assets").mkdir(exist_ok=True)
            files.save(folder / "assets" / name, partial(Path.write_bytes, data=content))
        MetricsFile(folder).cut(step)
    except OSError as error:  # one without a reason is another run's
        if error.strerror:
            text = f"it cannot be written to ({error.strerror}). Give another one."
            raise UserError(f"out_dir={folder}: {text}") from None
        process = _read(folder / "run.json").get("process")
        text = f"another run is at work there, or was just now (process {process}). Stop it, or give another --out_dir."
        raise BusyError(f"out_dir={folder}: {text}") from None
    return cfg, lock


def _claim() -> Path:
    """Make the folder of the next number."""
    ROOT.mkdir(exist_ok=True)
    number = 1 + max((int(run.name) for run in _numbered()), default=0)
    while True:
        with suppress(FileExistsError):  # another run was faster
            (folder := ROOT / f"{number:04}").mkdir()
            return folder
        number += 1


def is_finished(folder: Path, goal: int) -> bool:
    """Whether a run has ended with the same goal, of so many steps."""
    return _read(folder / "run.json").get("finished") == goal


def finish(folder: Path, goal: int, reason: str) -> dict[str, Any]:
    """Mark the run as finished and draw its pictures; return what `best.json` says."""
    from .report import draw  # brings matplotlib, which the first step does not wait for

    best = best_of(folder)
    with checked(folder / "best.json"):
        draw(folder, best)
    files.save_json(folder / "run.json", _read(folder / "run.json") | {"finished": goal, "ended": reason})
    return best


def best_of(folder: Path) -> dict[str, Any]:
    """What `best.json` says."""
    with checked(folder / "best.json", "No validation gave a score, or the file is damaged."):
        return files.check_format(json.loads((folder / "best.json").read_text()), folder / "best.json", folder)


def _read(path: Path) -> dict[str, Any]:
    with checked(path):
        return dict(json.loads(path.read_text())) if path.exists() else {}
