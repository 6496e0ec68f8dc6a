"""Try a run of many processes on this machine: `python -m <package>.check_world --size 512 [settings]`.

It acts as one process of so many, and makes up what the others would send. The data is shared out as for the
last and for the first of them; then the first trains for a step, validates and saves. Errors of shapes and of
shares show in seconds, without a cluster. What the model learns means nothing, and is thrown away.
"""

import logging
import os
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from .config import Config, parse
from .errors import UserError, plain_errors

SIZE: dict[str, Any] = {"--size": {"type": int, "required": True, "help": "number of processes"}}


def become(rank: int, size: int) -> None:
    """Be one of so many processes, each on a node of its own, in the words of torchrun."""
    own = {"RANK": rank, "GROUP_RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": 1}
    os.environ.update({name: str(value) for name, value in own.items()})
    os.environ.update({"MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none"})


def check(cfg: Config, size: int) -> int:
    """Train for a step as the first of so many processes; return the number of steps in an epoch."""
    import torch.distributed as dist

    from .distributed.pretended import pretend_group
    from .runs.progress import Progress
    from .training.loading import build_loaders
    from .training.module import load_data
    from .training.run import train

    data = load_data(cfg)
    for rank in (size - 1, 0):
        become(rank, size)
        pretend_group(rank, size)
        progress = Progress(len(data.train), cfg)
        for loader in build_loaders(data, cfg, progress):
            next(iter(loader))
        if rank:
            dist.destroy_process_group()
    train(replace(cfg, max_steps=1), logged=False)
    return progress.num_steps


def main() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # one GPU would not be many either
    with plain_errors(), tempfile.TemporaryDirectory() as folder:
        cfg, args = parse("check_world", **SIZE)
        if args.size < 2:
            raise UserError(f"size={args.size}: give the number of processes, 2 or more.")
        cfg = replace(cfg, epochs=1, patience=0, resume="never", out_dir=Path(folder) / "run")
        cfg = replace(cfg, compile=False, profile=False, sync_batchnorm=False)  # which is for GPUs
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            steps = check(cfg, args.size)
        samples = args.size * cfg.data.batch_size * cfg.optim.accumulate
        print(f"{args.size} processes can train this: {samples} samples a step, {steps} steps an epoch")


if __name__ == "__main__":
    main()
