"""Train short runs that each switch a technique on, and note what it did. A script, no test:

    python tests/support/technique_runs.py PACKAGE FOLDER RUN...

Each run lies in a folder of its name; what it notes lies in `RUN.pt` beside that.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import f1_score  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

PACKAGE, FOLDER, *RUNS = sys.argv[1:]
config, data, model, parallel, processes, predict, train = (
    importlib.import_module(f"{PACKAGE}.{name}")
    for name in ("config", "data", "model", "parallel", "processes", "predict", "train")
)
whole = importlib.import_module("whole").whole  # beside this script
DECAY = 0.8
Noted = dict[str, Any]


class StopError(Exception):
    pass


def settings(name: str, **changes: Any) -> Any:
    """Two epochs of 10 batches, or of 5 in two processes, with dropout and augmentation."""
    base = config.Config(
        epochs=2,
        log_every=1,
        num_threads=1,
        out_dir=Path(FOLDER) / name,
        data=config.DataConfig(batch_size=120),
        model=model.ModelConfig(width=8),
        optim=config.OptimConfig(schedule="plateau"),
    )
    return replace(base, **changes)


def without_dropout(name: str, **changes: Any) -> Any:
    return settings(name, epochs=1, model=model.ModelConfig(width=8, dropout=0.0), **changes)


def stop_and_go_on(cfg: Any) -> None:
    def stop(*_: object) -> None:
        raise StopError

    try:
        train.run(cfg, stop)
    except StopError:
        train.run(replace(cfg, resume="auto"))


@contextmanager
def convolutions() -> Iterator[list[bool]]:
    """One value for each time that a convolution computes while training: whether channels come last.

    That means something for several channels only, so the first convolution is left out.
    """
    formats: list[bool] = []

    def look(module: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels > 1 and module.training:
            formats.append(output.is_contiguous(memory_format=torch.channels_last))

    hook = nn.modules.module.register_module_forward_hook(look)
    yield formats
    hook.remove()


def plain() -> Noted:
    """The F1 score that scikit-learn finds for what the best weights predict."""
    cfg = settings("plain")
    train.run(cfg)
    images = data.load_images(cfg.data)
    predicted = [
        answer["index"] for answer in predict.Predictor(cfg.out_dir, cfg)(images.val.tensors[0].float())
    ]
    return {"f1": f1_score(images.val.tensors[1].tolist(), predicted, average="macro")}


def averaged() -> Noted:
    """The average of the weights after each step, by the formula and in double precision."""
    averages: list[list[Tensor]] = [[]]  # before the first step there is none

    def follow(optimizer: Optimizer, *_: object) -> None:
        parts = [w.detach() for group in optimizer.param_groups for w in group["params"]]
        weights = [whole(w).double() for w in parts]
        pairs = zip(averages[-1] or weights, weights, strict=True)
        averages.append([DECAY * average + (1 - DECAY) * now for average, now in pairs])

    hook = register_optimizer_step_post_hook(follow)
    train.run(settings("averaged", ema_decay=DECAY))
    hook.remove()
    return {"averages": averages}


def average_resumed() -> Noted:
    stop_and_go_on(settings("average_resumed", ema_decay=DECAY))
    return {}


def checkpointed() -> Noted:
    """How often a convolution computed."""
    with convolutions() as formats:
        train.run(settings("checkpointed", activation_checkpointing=True, profile=True))
    return {"convolutions": len(formats)}


def channels_last() -> Noted:
    """In which memory formats convolutions computed."""
    with convolutions() as formats:
        train.run(settings("channels_last", channels_last=True, epochs=1))
    return {"channels_last": all(formats)}


def three_best() -> Noted:
    train.run(settings("three_best", epochs=6, keep_best=3))
    return {}


def three_best_resumed() -> Noted:
    stop_and_go_on(settings("three_best_resumed", epochs=6, keep_best=3))
    return {}


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often a single value is read from a tensor, which waits for all that a GPU has to do."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def reads() -> Noted:
    """The reads until each step."""
    counts: list[int] = []
    cfg = settings("reads", log_every=5, ema_decay=DECAY)
    with Reads() as mode:  # type: ignore[no-untyped-call]
        hook = register_optimizer_step_post_hook(lambda *_: counts.append(mode.count))
        train.run(replace(cfg, optim=replace(cfg.optim, schedule="cosine")))
        hook.remove()
    return {"reads": counts}


def eager() -> Noted:
    train.run(without_dropout("eager"))
    return {}


def accumulated() -> Noted:
    """Steps in four parts; without dropout only rounding sets them apart from those of `eager`."""
    cfg = without_dropout("accumulated", data=config.DataConfig(batch_size=30))
    train.run(replace(cfg, optim=replace(cfg.optim, accumulate=4)))
    return {}


def compiled() -> Noted:
    train.run(without_dropout("compiled", compile=True))  # it would draw random numbers in another way
    return {}


def main() -> None:
    with parallel.process_group():
        for name in RUNS:
            noted = globals()[name]()
            if processes.rank() == 0:
                torch.save(noted, Path(FOLDER) / f"{name}.pt")


if __name__ == "__main__":
    main()
