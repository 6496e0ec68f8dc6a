"""Try a run of many processes on this machine: `python -m <package>.check_world --size 512 [settings]`.

It acts as one process of so many, and makes up what the others would send. The data is shared out as for the
last and for the first of them; then the first trains for a step, validates and saves. Errors of shapes and of
shares show in seconds, without a cluster. What the model learns means nothing, and is thrown away.
"""

import logging
import os
import tempfile
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from . import parallel, runs, speed
from .config import Config, UserError, parse, plain_errors
from .data import Images, Loaders, build_loaders, load_images
from .engine import Task
from .model import Net
from .progress import Progress
from .train import fit

SIZE: dict[str, Any] = {"--size": {"type": int, "required": True, "help": "number of processes"}}


def become(rank: int, size: int) -> None:
    """Be one of so many processes, each on a node of its own, in the words of torchrun."""
    own = {"RANK": rank, "GROUP_RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": 1}
    os.environ.update({name: str(value) for name, value in own.items()})
    os.environ.update({"MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none"})


def share_out(images: Images, cfg: Config, size: int) -> tuple[Loaders, Progress]:
    """The loaders of the first process, and where it is; those of the last are alike: each has a batch."""
    for rank in (size - 1, 0):
        become(rank, size)
        progress = Progress(len(images.train), cfg)
        loaders = build_loaders(images, cfg, progress)
        for loader in loaders:
            next(iter(loader))
    return loaders, progress


def main() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # one GPU would not be many either
    with plain_errors(), tempfile.TemporaryDirectory() as folder:
        cfg, args = parse("check_world", **SIZE)
        if args.size < 2:
            raise UserError(f"size={args.size}: give the number of processes, 2 or more.")
        cfg = replace(cfg, epochs=1, max_steps=1, patience=0, resume="never", out_dir=Path(folder) / "run")
        cfg = replace(cfg, compile=False, profile=False, sync_batchnorm=False)  # which is for GPUs
        images = load_images(cfg.data)
        loaders, progress = share_out(images, cfg, args.size)
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        torch.manual_seed(cfg.seed)
        net = speed.prepare(Net(cfg.model, images.shape[0], len(images.classes)), cfg)
        parallel.pretend_group(args.size)
        with runs.start(cfg, step=0), redirect_stdout(StringIO()):
            fit(Task(net, cfg, runs.Best(cfg, images), progress), loaders, [])
        samples = args.size * cfg.data.batch_size * cfg.optim.accumulate
        print(f"{args.size} processes can train this: {samples} samples a step, {progress.num_steps} steps an epoch")


if __name__ == "__main__":
    main()
