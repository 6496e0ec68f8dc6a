"""Which folder a run has, what stands in it at the start, and what at the end."""

import json
import shutil
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from ..config import Config
#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import LOG, UserError, checked
from ..interface import Data
from ..paths import RUNS, list_runs
from . import files, origin
from .metrics import MetricsFile
from .progress import Progress


class BusyError(UserError):
    """Another run is at work in the folder, or was while this one began."""


#: if strategy != "single"
@processes.by_first
#: endif
def choose(cfg: Config) -> tuple[Config, Path | None]:
    """The settings with the folder of the run, and the checkpoint that it continues from, if any.

    `out_dir` stays None where the run will be a new one. Raises `UserError` before a run would be overwritten.
    """
    if cfg.resume == "auto" and not cfg.out_dir:
        runs = list_runs()
        unfinished = (run for run in runs if not _has_ended(run, cfg))
        cfg = replace(cfg, out_dir=next(unfinished, next(iter(runs), None)))
    return cfg, _checkpoint(cfg)


def _has_ended(run: Path, cfg: Config) -> bool:
    """Whether a run has nothing left to do, unless its goal is moved."""
    facts = _read(run / "run.json")
    return "finished" in facts and facts.get("goal") == _goal(cfg)


def _goal(cfg: Config) -> dict[str, int]:
    return {"epochs": cfg.epochs, "max_steps": cfg.max_steps}


def _checkpoint(cfg: Config) -> Path | None:
    """What a run with these settings continues from. Raises `UserError` before it would overwrite another."""
    path = None if cfg.resume in ("never", "auto") else Path(cfg.resume)
    if not cfg.out_dir:
        return path
    checkpoints = cfg.out_dir / "checkpoints"
    if cfg.resume == "auto":
        return files.newest_checkpoint(checkpoints)
    own = path and path.resolve().parent == checkpoints.resolve()  # a run that goes back to an earlier step
    if (cfg.out_dir / "config.yaml").exists() and not own:
        raise UserError(f"out_dir={cfg.out_dir}: it holds a run. Add --resume auto or another --out_dir.")
    return path


#: if strategy != "single"
@processes.by_first
def keep_step(cfg: Config, path: Path | None) -> Config:
    """The settings of a run that goes on from `path`, with as many samples in a step as it had.

    Where the number of processes has changed, and nothing that makes up a batch, other numbers of batches are
    accumulated. Raises `UserError` where none makes up the step.
    """
    run = path.parent.parent if path else cfg.out_dir
    before = _read(run / "run.json").get("step") if run else None
    if not before or before["given"] != [cfg.data.batch_size, cfg.optim.accumulate]:
        return cfg
    samples, count = before["samples"], processes.world_size()
    many = f"{count} process{'es' * (count > 1)}"
    accumulate, rest = divmod(samples, cfg.data.batch_size * count)
    if rest or not accumulate:
        text = f"which {many} cannot take in batches of data.batch_size={cfg.data.batch_size}"
        hint = "Give another data.batch_size or optim.accumulate, and the run goes on with the steps that they make"
        raise UserError(f"{run}: a step has {samples} samples, {text}. {hint}.")
    if accumulate != cfg.optim.accumulate:
        LOG.warning("A step keeps its %d samples in %s: optim.accumulate=%d.", samples, many, accumulate)
    return replace(cfg, optim=replace(cfg.optim, accumulate=accumulate))


@processes.by_first
#: endif
def begin(cfg: Config, data: Data, progress: Progress, stack: ExitStack) -> Config:
    """Make the folder of the run and write the settings; delete what is later than the step at which it starts.

    Until the stack ends, no other process can train there. A killed process holds nothing.
    """
    folder = cfg.out_dir or _claim()
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        stack.enter_context(lock(folder))
        # Again, as another run may have been at work there since the first look.
        found = _checkpoint(cfg) if cfg.out_dir else None
        if found and cfg.resume == "auto" and files.step_of(found) != progress.steps:
            raise TimeoutError
        _prepare(folder, cfg := replace(cfg, out_dir=folder), data, progress)
    except OSError as error:  # one without a reason is another run's
        if error.strerror:
            text = f"it cannot be written to ({error.strerror}). Give another one."
            raise UserError(f"out_dir={folder}: {text}") from None
        process = _read(folder / "run.json").get("process")
        text = f"another run is at work there, or was just now (process {process}). Stop it, or give another --out_dir."
        raise BusyError(f"out_dir={folder}: {text}") from None
    return cfg


def lock(folder: Path) -> FileLock:
    """What a run holds while it is at work in a folder; who holds it in this process can train there.

    Raises `filelock.Timeout` after three seconds: loaders of a run that was killed need a moment.
    """
    return FileLock(folder / ".lock", timeout=3, is_singleton=True)


def _prepare(folder: Path, cfg: Config, data: Data, progress: Progress) -> None:
    """Write what stands in a folder from the start, and delete what a run that goes back will write again."""
    files.tidy(folder / "checkpoints", progress.steps)
    if cfg.resume not in ("never", "auto"):  # the second repeats the steps that it undoes
        _drop_best(folder, progress.steps)
    before = _read(folder / "run.json")
    earlier = [*before.pop("earlier", []), before] if before else []
    sizes = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    about: dict[str, Any] = {"goal": _goal(cfg), "samples": sizes, "data": data.train.fingerprint}
    #: if strategy != "single"
    given, samples = [cfg.data.batch_size, cfg.optim.accumulate], progress.taken * progress.cfg.optim.accumulate
    about |= {"processes": processes.world_size(), "step": {"given": given, "samples": samples}}
    #: endif
    files.save_json(folder / "run.json", {**origin.facts(folder), **about, "earlier": earlier})
    files.save_text(folder / "config.yaml", yaml.safe_dump(cfg.plain(), sort_keys=False))
    for name, content in data.assets.items():
        (folder / "assets").mkdir(exist_ok=True)
        files.save(folder / "assets" / name, partial(Path.write_bytes, data=content))
    MetricsFile(folder).cut(progress.steps)


def _drop_best(folder: Path, step: int) -> None:
    """Delete the best weights if they come from a step after this one, which the run will not reach as it did."""
    if (later := _read(folder / "best.json").get("step", 0)) > step:
        LOG.warning("%s: it is of step %s, which is undone; the next best replaces it.", folder / "best.pt", later)
        for name in ("best.json", "best.pt", "objective.pt", "sums.pt"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "best", ignore_errors=True)


def _claim() -> Path:
    """Make the folder of the next number."""
    RUNS.mkdir(exist_ok=True)
    number = 1 + max((int(run.name) for run in RUNS.iterdir() if run.name.isdecimal()), default=0)
    while True:
        with suppress(FileExistsError):  # another run was faster
            (folder := RUNS / f"{number:04}").mkdir()
            return folder
        number += 1


def is_finished(folder: Path, goal: int) -> bool:
    """Whether a run has ended with the same goal, of so many steps."""
    return _read(folder / "run.json").get("finished") == goal


#: if strategy != "single"
@processes.by_first
#: endif
def finish(cfg: Config, progress: Progress, monitor: str) -> str:
    """Mark the run as finished and draw its pictures; return why it ended."""
    from .report import draw  # brings matplotlib, which the first step does not wait for

    folder = cfg.folder
    with checked(f"{folder / 'best.json'} or sums.pt", files.NO_SCORE):
        draw(folder, files.read_best(folder))
    reached = f"reached epoch {progress.shown_epoch}, step {progress.steps}"
    early = f"stopped early: no better val/{monitor} in {cfg.patience} validations"
    reason = reached if progress.done else early
    files.save_json(folder / "run.json", _read(folder / "run.json") | {"finished": progress.goal, "ended": reason})
    return reason


def _read(path: Path) -> dict[str, Any]:
    with checked(path):
        return dict(json.loads(path.read_text())) if path.exists() else {}
