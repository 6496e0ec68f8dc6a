"""One run, from its settings to its best score."""

#: if strategy == "single"
import os
#: endif
from contextlib import ExitStack, nullcontext
from dataclasses import replace

import torch
from torch.amp import GradScaler

from ..config import Config
#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import UserError
#: if strategy != "single"
from ..paths import RUNS
#: endif
from ..runs import folder, terminal
from ..runs.best import Best
from ..runs.metrics import Sink
from ..runs.progress import START, Progress
from . import engine, signals, speed
from .loading import build_loaders
from .loggers import open_sinks
from .module import build_module, load_data, load_first_weights, load_saved
from .state import Report, Run

MEMORY = "Lower data.batch_size and raise optim.accumulate, or set activation_checkpointing or precision=bf16"


def train(cfg: Config, report: Report = None, *, logged: bool = True) -> float:
    """Train once; return the best validation score: see `train.run`.

    Unless it is `logged`, metrics go to the run's folder alone.
    """
    #: if strategy == "single"
    if torch.distributed.is_torchelastic_launched() and (count := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise UserError(f"torchrun started {count} processes; this project trains in one. Choose strategy=ddp.")
    #: endif
    torch.set_num_threads(cfg.num_threads or torch.get_num_threads())
    torch.set_float32_matmul_precision("high")
    cfg, path = folder.choose(replace(cfg, num_threads=torch.get_num_threads()))
    #: if strategy != "single"
    processes.check_shared(cfg.out_dir or RUNS)
    #: endif
    data = load_data(cfg)
    module = speed.prepare(build_module(cfg, data), cfg)
    saved = load_saved(path, module, data) if path else None
    if cfg.init_from and not saved:
        load_first_weights(cfg.init_from, module)
    #: if strategy == "single"
    progress = Progress(len(data.train), cfg, saved["progress"] if saved else START)
    #: endif
    #: if strategy != "single"
    progress = Progress(len(data.train), folder.keep_step(cfg, path), saved["progress"] if saved else START)
    #: endif
    if cfg.resume == "auto" and cfg.out_dir and folder.is_finished(cfg.out_dir, progress.goal):
        return terminal.show_end(cfg, "this run was finished already")
    loaders = build_loaders(data, cfg, progress)
    with ExitStack() as stack:
        cfg = folder.begin(cfg, data, progress, stack)
        #: if strategy != "single"
        cfg = replace(cfg, optim=progress.cfg.optim)  # whose step may be made up otherwise
        #: endif
        terminal.show_begin(cfg, data, progress, sum(weight.numel() for weight in module.net.parameters()))
        stack.enter_context(speed.profiled(cfg) if cfg.profile else nullcontext())
        #: if strategy == "single"
        sinks: list[Sink] = [terminal.Terminal(progress), *open_sinks(cfg, progress, stack, logged)]
        #: endif
        #: if strategy != "single"
        sinks: list[Sink] = []
        if processes.rank() == 0:
            sinks = [terminal.Terminal(progress), *open_sinks(cfg, progress, stack, logged)]
        #: endif
        best = Best(cfg, data, module.objective, progress, saved)
        stop = stack.enter_context(signals.Stop())
        scaler = GradScaler("cuda" if torch.cuda.is_available() else "cpu", enabled=cfg.precision == "fp16")
        if not (progress.done or best.stopped):  # else only its end is left to do
            try:
                engine.fit(Run(cfg, data, module, progress, best, scaler, stop, sinks, report, saved), loaders)
            except torch.OutOfMemoryError as error:
                raise UserError(f"memory ran out ({str(error).partition('.')[0]}). {MEMORY}.") from error
        reason = folder.finish(cfg, progress, best.monitor)
        return terminal.show_end(cfg, reason)
