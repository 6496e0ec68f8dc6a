"""The folder of a run: its settings, its metrics and its best score."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml
from filelock import FileLock
from torch import Tensor, nn

from . import data, migrations, plots, processes, storage
from .config import Config, UserError, checked
from .progress import Progress

Report = Callable[[int, float], None] | None  # is given (epoch, score) after each epoch


class BusyError(UserError):
    """Another run is at work in the folder, or was while this one began."""


def find_checkpoint(cfg: Config) -> Path | None:
    """The checkpoint to continue from, or None; raises `UserError` before a run would be overwritten."""
    if cfg.resume == "never" and (cfg.out_dir / "config.yaml").exists():
        raise UserError(f"out_dir={cfg.out_dir}: it holds a run. Add --resume auto or another --out_dir.")
    if cfg.resume in ("never", "auto"):
        return storage.newest_checkpoint(cfg.out_dir / "checkpoints") if cfg.resume == "auto" else None
    return Path(cfg.resume)


def start(cfg: Config, step: int) -> AbstractContextManager[object]:
    """Make the run's folder and note the settings; drop what is later than `step`, where it starts.

    Until the context ends no other process can train there. The lock ends with its process, however that ends.
    """
    processes.barrier()  # every process has looked at the folder before the first one writes to it
    if processes.rank() > 0:
        return nullcontext()
    try:
        (cfg.out_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        lock = FileLock(cfg.out_dir / ".lock", timeout=3).acquire()  # loaders of one that was killed need a moment
        # Again, as another run may have been at work there since the first look.
        if (found := find_checkpoint(cfg)) and cfg.resume == "auto" and found.stem != f"step-{step:08d}":
            raise TimeoutError
        storage.tidy(cfg.out_dir / "checkpoints", step)
        storage.save_text(cfg.out_dir / "config.yaml", yaml.safe_dump(cfg.plain(), sort_keys=False))
        MetricsFile(cfg.out_dir).cut(step)
    except OSError as error:  # one without a reason is another run's
        kind, reason = (UserError, error.strerror) if error.strerror else (BusyError, "another run is at work there")
        raise kind(f"out_dir={cfg.out_dir}: it cannot be written to ({reason}). Give another one.") from None
    return lock


def finished_score(cfg: Config, goal: int) -> float | None:
    """The best score of a run that has ended with the same goal, of so many steps; None for any other."""
    with checked(path := cfg.out_dir / "best.json"):
        best = json.loads(path.read_text()) if path.exists() else {}
        return float(best["score"]) if best.get("finished") == goal else None


def finish(cfg: Config, goal: int) -> float:
    """Mark the run as finished and draw its pictures; return its best score."""
    with checked(path := cfg.out_dir / "best.json"):
        best = json.loads(path.read_text()) | {"finished": goal}
        if processes.rank() == 0:
            curves, confusion = cfg.out_dir / "curves.png", cfg.out_dir / "confusion.png"
            storage.insist(curves, partial(plots.draw_curves, MetricsFile(cfg.out_dir).read(), curves))
            storage.insist(confusion, partial(plots.draw_confusion, best["confusion"], best["classes"], confusion))
            storage.save_json(path, best)
        return float(best["score"])


class Best:
    """The best validation score so far; `best.pt` holds the weights that reached it.

    If a run keeps several, `best/step-00000080.pt` is one of them.
    """

    def __init__(self, cfg: Config, images: data.Images) -> None:
        self.out_dir, self.num_kept, self.images = cfg.out_dir, cfg.keep_best, images
        self.kept: list[tuple[float, int]] = []  # scores and steps, the best first

    def offer(self, score: float, step: int, net: nn.Module, confusion: Tensor) -> None:
        """Keep these weights if their score beats the best one, or one of those that are kept."""
        ranked = sorted([*self.kept, (score, step)], key=lambda kept: (-kept[0], kept[1]))
        self.kept, dropped = ranked[: self.num_kept], ranked[self.num_kept :]
        if (score, step) in dropped:
            return
        weights = net.state_dict()  # where they are sharded, all processes take part in this
        if processes.rank() > 0:
            return
        if self.num_kept > 1:
            folder = self.out_dir / "best"
            folder.mkdir(exist_ok=True)
            storage.save_weights(folder / f"step-{step:08d}.pt", weights)
            for _, worse in dropped:
                (folder / f"step-{worse:08d}.pt").unlink(missing_ok=True)
        if step == self.kept[0][1]:
            storage.save_weights(self.out_dir / "best.pt", weights)
            about = {"schema": migrations.SCHEMA, "classes": self.images.classes, "shape": self.images.shape}
            facts = {"score": score, "step": step, "confusion": confusion.tolist()}
            storage.save_json(self.out_dir / "best.json", about | facts)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if (self.out_dir / "best.json").exists():  # else it is another run's folder that was resumed from
            self.kept = state["kept"] if "kept" in state else [(state["score"], 0)]  # as of release 0.1.0


class Sink(Protocol):
    """Where metrics go; only the first process has any."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...


def send(sinks: list[Sink], step: int, metrics: dict[str, float]) -> None:
    """Log values that were reached with optimizer step `step`."""
    for sink in sinks:
        sink.log_metrics(metrics, step)


class MetricsFile:
    """`metrics.csv`, a row a value: step, epoch (from 1), name, value."""

    def __init__(self, out_dir: Path, progress: Progress | None = None) -> None:
        self.path, self.progress = out_dir / "metrics.csv", progress

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Append values that were reached with optimizer step `step`."""
        epoch = self.progress.epoch + (self.progress.samples > 0) if self.progress else 1
        rows = "".join(f"{step},{epoch},{name},{value:.6g}\n" for name, value in metrics.items())
        storage.insist(self.path, partial(storage.append, self.path, rows, self.path.stat().st_size))

    def read(self) -> list[list[str]]:
        """The rows below the header; a last one that was not written to its end is left out."""
        with checked(self.path):
            lines = self.path.read_text().split("\n")[1:-1] if self.path.exists() else []
            rows = (line.split(",") for line in lines)
            return [[f"{int(step)}", epoch, name, f"{float(value):.6g}"] for step, epoch, name, value in rows]

    def cut(self, step: int) -> None:
        """Keep the rows up to a step; those after it will be written again."""
        rows = [["step", "epoch", "name", "value"], *(row for row in self.read() if int(row[0]) <= step)]
        storage.save_text(self.path, "".join(",".join(row) + "\n" for row in rows))


def progress_line(epoch: int, step: int, metrics: Mapping[str, float]) -> str:
    """What the terminal shows after an epoch."""
    return f"epoch {epoch:3}  step {step:6}  " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
