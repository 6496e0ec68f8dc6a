"""Train, and come to harm on the way. A program for forks, no test:

    python -m tests.support.harmed_run PACKAGE HARM [--group.name value ...]

HARM is JSON: which `signal` this process gets, or for how long it sleeps (`sleep_s`), at the `at`-th of its
steps, saves or validation batches, as `where` says; `came` is a file that tells when it came. Of several
processes it is the one of that `rank`, and none that is started again later. `namespaces` is a process whose
disks this one sees, `pause_s` how long a save that failed waits before it is tried again.
"""

import ctypes
import importlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook


def main() -> None:
    package, harm, *arguments = sys.argv[1:]
    wanted: dict[str, Any] = json.loads(harm)
    if process := wanted.get("namespaces"):
        enter(process)
    torch.set_num_threads(1)
    train = importlib.import_module(f"{package}.train")
    if pause_s := wanted.get("pause_s"):
        importlib.import_module(f"{package}.runs.files").PAUSES_S = (pause_s,)  # type: ignore[attr-defined]
    rank = int(os.environ.get("RANK", "0"))
    if "where" in wanted and wanted.pop("rank", rank) == rank and not Path(wanted["came"]).exists():
        prepare(**wanted)
    sys.argv = ["train", *arguments]
    train.main()


def enter(process: int) -> None:
    """See the file systems that another process has mounted for itself alone."""
    folder, libc = Path.cwd(), ctypes.CDLL(None, use_errno=True)
    spaces = [os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY) for kind in ("user", "mnt")]
    for space in spaces:
        if libc.setns(space, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(space)
    os.chdir(folder)


def prepare(where: str, at: int, came: str, **harm: Any) -> None:
    """Let a signal, or sleep, come at a certain place, and note that it came."""
    counter = itertools.count(1)

    def come(*_: object) -> None:
        if next(counter) == at:
            Path(came).touch()
            if "signal" in harm:
                os.kill(os.getpid(), getattr(signal, harm["signal"]))
            time.sleep(harm.get("sleep_s", 0))

    places: dict[str, Callable[[Callable[..., None]], object]] = {
        "step": register_optimizer_step_post_hook,
        "save": before_each_sync,
        "validation": before_each_answer,
    }
    places[where](come)


def before_each_sync(come: Callable[..., None]) -> None:
    sync = os.fsync

    def fsync(file: Any) -> None:
        come()
        sync(file)

    os.fsync = fsync  # type: ignore[assignment]


def is_trained(module: nn.Module) -> bool:
    """Whether it is the network with its objective; sharded, its class has a longer name."""
    return type(module).__name__.endswith("TrainingModule")


def before_each_answer(come: Callable[..., None]) -> None:
    nn.modules.module.register_module_forward_hook(
        lambda module, *_: come() if is_trained(module) and not module.training else None
    )


if __name__ == "__main__":
    main()
