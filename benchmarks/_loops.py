"""Time the steps of a project's loop and of a simpler one, in turn. Run by `benchmarks.loops` in a project:

python benchmarks/_loops.py PACKAGE REPEATS
"""

import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from torch.nn.utils import clip_grad_norm_
from torch.optim.optimizer import register_optimizer_step_post_hook

PACKAGE, REPEATS = sys.argv[1], int(sys.argv[2])
config, data, model, objective, optim, train = (
    importlib.import_module(f"{PACKAGE}.{name}")
    for name in ("config", "data", "model", "objective", "optim", "train")
)
CFG = config.Config(
    epochs=6, num_threads=1, precision="fp32", ema_decay=0.99, model=model.ModelConfig(width=8)
)


def everything() -> None:
    """The project as it is: loggers, progress bar, averaged weights, validations, checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        train.run(replace(CFG, out_dir=Path(folder) / "run"))


def parts() -> tuple[Any, Any, int]:
    images = data.load_images(CFG.data)
    loader = data.build_loaders(images, CFG, 0)[0]
    return model.Net(CFG.model, images.shape[0], len(images.classes)), loader, CFG.epochs * len(loader)


def plain() -> None:
    """What someone would write by hand for the same model, data and batch."""
    net, loader, steps = parts()
    optimizer = optim.build_optimizer(net, CFG)
    schedule = optim.build_schedule(optimizer, CFG.optim, steps)
    for epoch in range(CFG.epochs):
        loader.sampler.set_epoch(epoch)
        for images, labels in loader:
            objective.loss(net(images), labels).backward()
            clip_grad_norm_(net.parameters(), CFG.optim.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


def lightning_off() -> None:
    """Lightning with all that can be switched off switched off."""
    import pytorch_lightning as pl

    net, loader, steps = parts()

    class Bare(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, *_: Any) -> Any:
            return objective.loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimizer = optim.build_optimizer(self.net, CFG)
            schedule = optim.build_schedule(optimizer, CFG.optim, steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    pl.Trainer(
        accelerator="cpu",
        max_epochs=CFG.epochs,
        gradient_clip_val=CFG.optim.grad_clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Bare(), loader)


def step_ms(loop: Callable[[], None]) -> list[float]:
    """Milliseconds of a step in each epoch, from its first to its last optimizer step."""
    times: list[float] = []
    hook = register_optimizer_step_post_hook(lambda *_: times.append(perf_counter()))
    loop()
    hook.remove()
    size = len(times) // CFG.epochs
    return [
        1000 * (times[at + size - 1] - times[at]) / (size - 1)
        for at in range(size, len(times), size)  # the first epoch warms up
    ]


def main() -> None:
    sys.stderr.isatty = lambda: True  # type: ignore[method-assign]  # so that there is a progress bar
    loops = [everything, plain]
    if hasattr(train, "pl"):
        loops.append(lightning_off)
    found: dict[str, list[float]] = {loop.__name__: [] for loop in loops}
    for _ in range(REPEATS):
        for loop in loops:
            found[loop.__name__] += step_ms(loop)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
