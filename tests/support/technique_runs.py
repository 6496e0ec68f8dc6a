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
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

PACKAGE, FOLDER, *RUNS = sys.argv[1:]
config, data, train, trained = (
    importlib.import_module(f"{PACKAGE}.{name}") for name in ("config", "task.data", "train", "trained")
)
processes = importlib.import_module("of_package").processes_of(PACKAGE)  # beside this script
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
        model=config.ModelConfig(width=8),
        optim=config.OptimConfig(schedule="plateau"),
    )
    return replace(base, **changes)


def without_dropout(name: str, **changes: Any) -> Any:
    return settings(name, epochs=1, model=config.ModelConfig(width=8, dropout=0.0), **changes)


def stop_and_go_on(cfg: Any) -> None:
    """Stop in the second validation, of which nothing is saved."""

    def stop(samples: int, _: object) -> None:
        if samples > 1297:
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
    source = data.open_data(cfg.data).val
    batch, model = source.batch([*range(len(source))], None), trained.Trained(cfg.out_dir, cfg)
    answers = trained.inputs.predictions(model.answer(trained.inputs.from_batch(batch)), model.about)
    return {"f1": f1_score(batch["label"].tolist(), [each["index"] for each in answers], average="macro")}


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


class Reads(TorchDispatchMode):
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


def lowest() -> Noted:
    """A score of which less is better."""
    cfg = settings(
        "lowest", epochs=12, keep_best=3, patience=3, objective=config.ObjectiveConfig(monitor="loss")
    )
    train.run(replace(cfg, optim=replace(cfg.optim, lr=0.05)))
    return {}


def within_epochs() -> Noted:
    """The steps of all checkpoints, those included that others took the place of."""
    cfg, steps = settings("within_epochs", validate_every=4, save_every=3), set[int]()

    def look(*_: object) -> None:
        steps.update(int(path.stem[5:]) for path in (cfg.out_dir / "checkpoints").glob("step-*.json"))

    hook = register_optimizer_step_pre_hook(look)
    train.run(cfg)
    hook.remove()
    look()
    return {"saved": sorted(steps)}


def started() -> Noted:
    """The weights before the first step of runs that start from `plain`: its folder, and a file of it."""
    first: list[list[Tensor]] = []

    def look(optimizer: Optimizer, *_: object) -> None:
        if len(first) == number:
            first.append([whole(w.detach()).clone() for g in optimizer.param_groups for w in g["params"]])

    hook = register_optimizer_step_pre_hook(look)
    for number, source in enumerate(("plain", "plain/best.pt")):
        train.run(settings(f"started_{number}", init_from=Path(FOLDER) / source, max_steps=1))
    hook.remove()
    return {"first": first}


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
    with processes.process_group(600):
        for name in RUNS:
            noted = globals()[name]()
            if processes.rank() == 0:
                torch.save(noted, Path(FOLDER) / f"{name}.pt")


if __name__ == "__main__":
    main()
