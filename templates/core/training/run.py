"""One run, from its settings to its best score."""

import os
import shlex
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from tqdm import tqdm

from ..config import Config
from ..distributed import processes
from ..errors import UserError, checked
from ..interface import Data
from ..runs import folder
from ..runs.best import Best
from ..runs.files import load_checkpoint, load_weights
from ..runs.progress import START, Progress
from . import engine, signals, speed
from .loading import build_loaders
from .loggers import open_sinks
from .module import TrainingModule, build_module, load_data
from .state import Report, Run

MEMORY = "Lower data.batch_size and raise optim.accumulate, or set activation_checkpointing or precision=bf16"


def run(cfg: Config, report: Report = None, *, logged: bool = True) -> float:
    """Train once; return the best validation score, the same in every process: see `train.run`.

    Unless it is `logged`, metrics go to the run's folder alone.
    """
    torch.set_num_threads(cfg.num_threads or torch.get_num_threads())
    torch.set_float32_matmul_precision("high")
    cfg, path = processes.first(lambda: folder.choose(replace(cfg, num_threads=torch.get_num_threads())))
    data = load_data(cfg)
    module = speed.prepare(build_module(cfg, data), cfg)
    saved = load_saved(path, module, data) if path else None
    if cfg.init_from and not saved:
        load_first_weights(cfg.init_from, module)
    progress = Progress(len(data.train), cfg, saved["progress"] if saved else START)
    if cfg.resume == "auto" and cfg.out_dir and folder.is_finished(cfg.out_dir, progress.goal):
        return processes.first(lambda: conclude(cfg, "this run was finished already", folder.best_of(cfg.folder)))
    loaders = build_loaders(data, cfg, progress)
    with ExitStack() as stack:
        cfg = processes.first(lambda: begin(cfg, data, module.net, progress, stack))
        stack.enter_context(speed.profiled(cfg) if cfg.profile else nullcontext())
        sinks = open_sinks(cfg, progress, stack, logged) if processes.rank() == 0 else []
        best = Best(cfg, data, module.objective, progress, saved)
        stop = stack.enter_context(signals.Stop())
        scaler = GradScaler("cuda" if torch.cuda.is_available() else "cpu", enabled=cfg.precision == "fp16")
        if not (progress.done or best.stopped):  # it was, and a signal came before its end
            try:
                engine.fit(Run(cfg, data, module, progress, best, scaler, stop, sinks, report, saved), loaders)
            except torch.OutOfMemoryError as error:
                raise UserError(f"memory ran out ({str(error).partition('.')[0]}). {MEMORY}.") from error
        return processes.first(lambda: finish(cfg, progress, best.monitor))


def load_saved(path: Path, module: TrainingModule, data: Data) -> dict[str, Any]:
    """Read a checkpoint, and its weights into the module; raises `UserError` if model or data are others."""
    saved = load_checkpoint(path)
    with checked(path):
        fingerprint, count = saved["fingerprint"]
        if fingerprint != data.train.fingerprint:
            other = f"it was trained on other data ({count:,} samples then, {len(data.train):,} now)"
            raise UserError(f"{path}: {other}. Start a new run from its weights: --init_from {path.parent.parent}")
        load_weights(module, saved.pop("module"), path)
        saved["progress"] = {name: type(value)(saved["progress"][name]) for name, value in START.items()}
    return saved


def load_first_weights(path: Path, module: TrainingModule) -> None:
    """Start from the best weights of a run, or from a file with weights."""
    file = path / "best.pt" if path.is_dir() else path
    with checked(f"init_from={path}", "Give the folder of a run, or its best.pt."):
        load_weights(module.net, torch.load(file, map_location="cpu", weights_only=True), file)


def begin(cfg: Config, data: Data, net: nn.Module, progress: Progress, stack: ExitStack) -> Config:
    """Take the run's folder until the stack ends, and say what is about to be trained."""
    sizes = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    size = processes.world_size()
    about = {"processes": size, "samples": sizes, "data": data.train.fingerprint}
    cfg, lock = folder.begin(cfg, progress.steps, about, data.assets)
    stack.callback(lock.release)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    facts = [
        f"{size} process{'es' * (size > 1)} on {device}",
        f"{sum(weight.numel() for weight in net.parameters()):,} parameters",
        " / ".join(f"{size:,} {name}" for name, size in sizes.items()) + " samples",
        f"after step {progress.steps} of {progress.goal}" if progress.steps else f"{progress.goal} steps",
    ]
    tqdm.write(f"{cfg.folder}: {', '.join(facts)}")
    return cfg


def finish(cfg: Config, progress: Progress, monitor: str) -> float:
    """Mark the run as finished; return its best score."""
    reached = f"reached epoch {progress.shown_epoch}, step {progress.steps}"
    early = f"stopped early: no better val/{monitor} in {cfg.patience} validations"
    reason = reached if progress.done else early
    return conclude(cfg, reason, folder.finish(cfg.folder, progress.goal, reason))


def conclude(cfg: Config, reason: str, best: dict[str, Any]) -> float:
    """Say why a run ended, how well it did, and what can be done next; return its best score."""
    with checked(cfg.folder / "best.json"):
        score, where = float(best["score"]), f"epoch {best['epoch']}, step {best['step']}"
        tqdm.write(f"{reason}; best val/{best['monitor']} {score:.4f} at {where}: {cfg.folder}")
    run, package = shlex.quote(str(cfg.folder)), __package__.partition(".")[0]
    more = f"--max_steps {2 * cfg.max_steps}" if cfg.max_steps > 0 else f"--epochs {2 * cfg.epochs}"
    local = os.environ.get("LOCAL_WORLD_SIZE", "1")
    commands = [
        f"python -m {package}.evaluate --run {run}",
        #: if serving != "none"
        f"python -m {package}.export --run {run}",
        #: endif
        f"{'python' if local == '1' else f'torchrun --nproc-per-node {local}'} -m {package}.train"
        f" --config {run}/config.yaml --resume auto {more}",
    ]
    tqdm.write("\n  ".join(["next:", *commands]))
    return score
