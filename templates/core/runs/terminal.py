"""What a run prints: at its start, after each validation, and at its end."""

#: if strategy != "single"
import os
#: endif
import shlex

import torch
from tqdm import tqdm

from ..config import Config
#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import checked
from ..interface import Data
from .files import NO_SCORE, read_best
from .progress import Progress


class Terminal:
    """Takes metrics as `metrics.Sink` says, and prints those of validations."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        scores = [f"{name[4:]} {value:.4f}" for name, value in metrics.items() if name.startswith("val/")]
        if scores:
            epoch = f"epoch {self.progress.shown_epoch:3}/{self.progress.cfg.epochs}"
            tqdm.write("  ".join([epoch, f"step {step:6}", *scores]))


#: if strategy != "single"
@processes.by_first
#: endif
def show_begin(cfg: Config, data: Data, progress: Progress, parameters: int) -> None:
    """Say what is about to be trained, where, and for how long."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    #: if strategy != "single"
    count = processes.world_size()
    device = f"{count} process{'es' * (count > 1)} on {device}"
    #: endif
    samples = f"{len(data.train):,} train / {len(data.val):,} val / {len(data.test):,} test samples"
    steps = f"after step {progress.steps} of {progress.goal}" if progress.steps else f"{progress.goal} steps"
    tqdm.write(f"{cfg.folder}: {device}, {parameters:,} parameters, {samples}, {steps}")


#: if strategy != "single"
@processes.by_first
#: endif
def show_end(cfg: Config, reason: str) -> float:
    """Say why a run ended, how well it did, and what can be done next; return its best score."""
    with checked(cfg.folder / "best.json", NO_SCORE):
        best = read_best(cfg.folder)
        score, where = float(best["score"]), f"epoch {best['epoch']}, step {best['step']}"
        tqdm.write(f"{reason}; best val/{best['monitor']} {score:.4f} at {where}: {cfg.folder}")
    run, package = shlex.quote(str(cfg.folder)), __package__.partition(".")[0]
    more = f"--max_steps {2 * cfg.max_steps}" if cfg.max_steps > 0 else f"--epochs {2 * cfg.epochs}"
    #: if strategy != "single"
    torchrun = f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', '1')}"
    launcher = torchrun if processes.world_size() > 1 else "python"
    #: endif
    tqdm.write(f"next:\n  python -m {package}.evaluate --run {run}")
    #: if serving != "none"
    tqdm.write(f"  python -m {package}.export --run {run}")
    #: endif
    #: if strategy == "single"
    tqdm.write(f"  python -m {package}.train --config {run}/config.yaml --resume auto {more}")
    #: endif
    #: if strategy != "single"
    tqdm.write(f"  {launcher} -m {package}.train --config {run}/config.yaml --resume auto {more}")
    #: endif
    return score
