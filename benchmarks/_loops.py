"""Time the steps of a project's loop and of simpler ones in turn. Run by `benchmarks.loops` in a project:

python benchmarks/_loops.py PACKAGE EPOCHS SETTINGS

SETTINGS is JSON, for the model and for the run, such as {"model": {"width": 8}, "ema_decay": 0.99}.
"""

import importlib
import json
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim.optimizer import register_optimizer_step_post_hook

PACKAGE, EPOCHS, SETTINGS = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
config, data, model, objective, optim, loading, engine, progress, settings, train = (
    importlib.import_module(f"{PACKAGE}.{name}")
    for name in (
        "config",
        "task.data",
        "task.model",
        "task.objective",
        "training.optim",
        "training.loading",
        "training.engine",
        "runs.progress",
        "task.settings",
        "train",
    )
)
CFG = config.Config(
    epochs=EPOCHS,
    patience=0,
    num_threads=1,
    precision="fp32",
    model=settings.ModelConfig(**SETTINGS.pop("model", {})),
    **SETTINGS,
)


def everything() -> None:
    """The project as it is: loggers, progress bar, averaged weights, validations, checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        train.run(replace(CFG, out_dir=Path(folder) / "run"))


def parts() -> tuple[Any, Any, Any, Any]:
    """Network, objective, loader, and where they are: every loop counts its steps, for the learning rate."""
    sources = data.open_data(CFG.data)
    at = progress.Progress(len(sources.train), CFG)
    loader = loading.build_loaders(sources, CFG, at)[0]
    net = model.build(CFG.model, sources.about, sources.assets, init=True)
    return net, objective.Objective(CFG.objective, sources.about), loader, at


def mean_loss(goal: Any, net: Any, batch: Any) -> Any:
    total, count = goal.loss(net, batch)
    return total / count


def plain() -> None:
    """What someone would write by hand for the same model, data and batch."""
    net, goal, loader, at = parts()
    optimizer = optim.build_optimizer([*net.parameters()], CFG.optim)
    for _ in range(CFG.epochs):
        for batch in loader:
            mean_loss(goal, net, batch).backward()
            clip_grad_norm_(net.parameters(), CFG.optim.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
            at.advance()
            optim.set_rate(optimizer, at)


def lightning_off() -> None:
    """Lightning with all that can be switched off switched off."""
    import pytorch_lightning as pl

    net, goal, loader, at = parts()

    class Bare(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, *_: Any) -> Any:
            return mean_loss(goal, self.net, batch)

        def configure_optimizers(self) -> Any:
            return optim.build_optimizer([*self.net.parameters()], CFG.optim)

        def on_train_batch_end(self, *_: Any) -> None:
            at.advance()
            optim.set_rate(self.trainer.optimizers[0], at)

    pl.Trainer(
        accelerator="cpu",
        max_epochs=CFG.epochs,
        gradient_clip_val=CFG.optim.grad_clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Bare(), loader)


class Turns:
    """Lets loops train an epoch each in turn, and times it from its first to its last optimizer step.

    A machine is faster in one second than in the next, so what is compared has to run side by side. The
    others wait meanwhile, in threads of their own.
    """

    def __init__(self, loops: list[Callable[[], None]]) -> None:
        self.loops = {loop.__name__: loop for loop in loops}
        self.ring, self.moved = deque(self.loops), threading.Condition()
        self.size = len(parts()[2])
        self.steps, self.begin = dict.fromkeys(self.loops, 0), dict.fromkeys(self.loops, 0.0)
        self.step_ms: dict[str, list[float]] = {name: [] for name in self.loops}

    def run(self) -> dict[str, list[float]]:
        """Milliseconds of a step in each epoch but the first, which warms up."""
        hook = register_optimizer_step_post_hook(lambda *_: self.count(threading.current_thread().name))
        with ThreadPoolExecutor(len(self.loops)) as pool:
            for ended in [pool.submit(self.train, name) for name in self.loops]:
                ended.result()
        hook.remove()
        return {name: times[1:] for name, times in self.step_ms.items()}

    def train(self, name: str) -> None:
        threading.current_thread().name = name
        torch.set_num_threads(CFG.num_threads)  # of this thread
        self.wait(name)
        try:
            self.loops[name]()
        finally:
            with self.moved:
                self.ring.remove(name)
                self.moved.notify_all()

    def wait(self, name: str) -> None:
        with self.moved:
            self.moved.wait_for(lambda: self.ring[0] == name)

    def count(self, name: str) -> None:
        """After each step: the first of an epoch lets the others have theirs, the last one ends it."""
        self.steps[name] += 1
        if self.steps[name] % self.size == 1:
            with self.moved:
                self.ring.rotate(-1)
                self.moved.notify_all()
            self.wait(name)
            self.begin[name] = perf_counter()
        elif self.steps[name] % self.size == 0:
            self.step_ms[name].append(1000 * (perf_counter() - self.begin[name]) / (self.size - 1))


def main() -> None:
    sys.stderr.isatty = lambda: True  # type: ignore[method-assign]  # so that there is a progress bar
    loops = [everything, plain]
    if hasattr(engine, "pl"):
        loops.append(lightning_off)
    print(json.dumps(Turns(loops).run()))


if __name__ == "__main__":
    main()
