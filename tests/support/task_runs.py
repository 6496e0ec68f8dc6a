"""Train a task in runs that are compared with a loop without any framework. A script, no test:

    python tests/support/task_runs.py PACKAGE FOLDER train RUNS
    python tests/support/task_runs.py PACKAGE FOLDER plain PROCESSES RUNS

RUNS is JSON: by the name of each run its `arguments`, the first `scale` of the gradient scaler, and `harm`,
the step in which one element of one process's gradient is not finite. Process r writes FOLDER/NAME-r.pt.
"""

import importlib
import json
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

PACKAGE, FOLDER, COMMAND, *REST = sys.argv[1:]
RUNS: dict[str, dict[str, Any]] = json.loads(REST[-1])
processes = importlib.import_module("of_package").processes_of(PACKAGE)  # beside this script
config, train, seeding, module, optim, run = (
    importlib.import_module(f"{PACKAGE}.{name}")
    for name in (
        "config",
        "train",
        "seeding",
        "training.module",
        "training.optim",
        "training.run",
    )
)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
KEPT = 10  # the step whose checkpoint is copied to FOLDER/kept


def settings(name: str) -> Any:
    """Everything but the rate is constant, so that a plain loop is easy to write."""
    fixed = "--optim.schedule plateau --num_threads 1 --log_every 1 --validate_every 1000 --epochs 50"
    sys.argv = ["train", *fixed.split(), *RUNS[name]["arguments"]]
    cfg = config.parse("train")[0]
    return replace(cfg, out_dir=Path(FOLDER) / name)


@contextmanager
def watched(cfg: Any) -> Iterator[tuple[list[bool], list[bool]]]:
    """Whether each step changed what this process holds of the weights, and had a finite gradient for it.

    A checkpoint is kept on the way.
    """
    before: list[list[Tensor]] = []
    changed: list[bool] = []
    finite: list[bool] = []

    def own(tensor: Any) -> Tensor:
        copy: Tensor = (tensor.to_local() if hasattr(tensor, "to_local") else tensor).detach().clone()
        return copy

    def held(optimizer: Any) -> list[Any]:
        return [weight for group in optimizer.param_groups for weight in group["params"]]

    def begin(optimizer: Any, *_: object) -> None:
        before[:] = [[own(weight) for weight in held(optimizer)]]
        for path in (cfg.out_dir / "checkpoints").glob(f"step-{KEPT:08d}.*") if processes.rank() == 0 else []:
            target = Path(FOLDER) / "kept" / f"{cfg.out_dir.name}-checkpoints" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)

    def end(optimizer: Any, *_: object) -> None:
        finite.append(all(own(weight.grad).isfinite().all() for weight in held(optimizer)))
        now = [own(weight) for weight in held(optimizer)]
        changed.append(not all(torch.equal(*pair) for pair in zip(before[0], now, strict=True)))

    hooks = [register_optimizer_step_pre_hook(begin), register_optimizer_step_post_hook(end)]
    yield changed, finite
    for hook in hooks:
        hook.remove()


def spoil(step: int, changed: list[bool]) -> Any:
    """Let one row of the embedding have a gradient that is not finite, in the last process, in one step."""

    def look(part: nn.Module, inputs: Any, output: Tensor) -> None:
        last = processes.rank() == processes.world_size() - 1
        if isinstance(part, nn.Embedding) and part.training and last and len(changed) + 1 == step:
            row, column = (inputs[0] == inputs[0][inputs[0] > 0].min()).nonzero()[0].tolist()
            wrong = torch.zeros_like(output)
            wrong[row, column, 0] = math.inf
            output.register_hook(lambda gradient: gradient + wrong)

    return nn.modules.module.register_module_forward_hook(look)


def train_all() -> None:
    with processes.process_group(600):
        for name, wanted in RUNS.items():
            scaler = partial(GradScaler, init_scale=wanted.get("scale", 2.0**16))
            run.GradScaler = scaler  # type: ignore[attr-defined]
            cfg = settings(name)
            with watched(cfg) as (changed, finite):
                hook = spoil(wanted.get("harm", 0), changed)
                train.run(cfg)
                hook.remove()
            torch.save({"changed": changed, "finite": finite}, Path(FOLDER) / f"{name}-{processes.rank()}.pt")


def plain(cfg: Any, taken: int, scale: float, *, mean_of_means: bool = False) -> dict[str, Any]:
    """Train on whole steps, all processes and batches at once.

    `mean_of_means` is the usual mistake: each batch of each process weighs the same.
    """
    data = module.load_data(cfg)
    model, dtype = module.build_module(cfg, data).train(), DTYPES.get(cfg.precision)
    weights = [weight for name, weight in model.named_parameters() if name != "tally"]
    start = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = optim.build_optimizer(weights, cfg.optim)
    scaler = GradScaler("cpu", init_scale=scale, enabled=cfg.precision == "fp16")

    def loss(own: list[int]) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = model.objective.loss(model.net, data.train.batch(own, None))
        return result

    def mean(own: list[int]) -> Tensor:
        if not mean_of_means:
            total, count = loss(own)
            return total / count
        parts = [own[i : i + cfg.data.batch_size] for i in range(0, len(own), cfg.data.batch_size)]
        return torch.stack([total / count for total, count in map(loss, parts)]).mean()

    losses = []
    for own in steps(len(data.train), cfg, taken):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype) if dtype else nullcontext():
            pooled = mean(own)
        losses.append(float(pooled))
        scaler.scale(pooled).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(weights, cfg.optim.grad_clip)
        scaler.step(optimizer)
        scaler.update()
    return {"start": start, "module": model.state_dict(), "scaler": scaler.state_dict(), "losses": losses}


def steps(num_samples: int, cfg: Any, taken: int) -> Iterator[list[int]]:
    """The samples of each step; the last one of an epoch may have fewer."""
    step = epoch = 0
    while True:
        order = torch.randperm(num_samples, generator=seeding.generator(cfg.seed, epoch))
        for own in order[: num_samples // taken * taken].split(taken * cfg.optim.accumulate):
            if step == cfg.max_steps:
                return
            yield own.tolist()
            step += 1
        epoch += 1


def plain_all(number: int) -> None:
    torch.set_num_threads(1)
    for name, wanted in RUNS.items():
        cfg, scale = settings(name), wanted.get("scale", 2.0**16)
        taken = number * cfg.data.batch_size
        result = plain(cfg, taken, scale)
        result["mean_of_means"] = plain(cfg, taken, scale, mean_of_means=True)["module"]
        torch.save(result, Path(FOLDER) / f"{name}.pt")


if __name__ == "__main__":
    Path(FOLDER).mkdir(exist_ok=True, parents=True)
    train_all() if COMMAND == "train" else plain_all(int(REST[0]))
