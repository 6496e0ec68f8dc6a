"""Train a task with two phases in runs that are compared with a plain loop. A script, no test:

    python tests/support/phase_runs.py PACKAGE train RUNS
    python tests/support/phase_runs.py PACKAGE plain PROCESSES RUNS

RUNS is JSON: by the name of each run its `arguments`; the first `scale` of the gradient scaler; `harm`, the
step and the number of the phase in which the last process's gradient is not finite; whether to `resume` it
from each of its steps, into runs/NAME-from-STEP. Process r writes runs/NAME-r.pt, the loop plain/NAME.pt.
"""

import importlib
import json
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

PACKAGE, COMMAND, *REST = sys.argv[1:]
RUNS: dict[str, dict[str, Any]] = json.loads(REST[-1])
config, errors, seeding, train, data, model, objective = (
    importlib.import_module(f"{PACKAGE}.{name}")
    for name in (
        *("config", "errors", "seeding", "train"),
        *("task.data", "task.model", "task.objective"),
    )
)
processes = importlib.import_module("of_package").processes_of(PACKAGE)  # beside this script
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SCALE = 2.0**16
Weights = list[Tensor]


def settings(name: str, *more: str) -> Any:
    fixed = ["--num_threads", "1", "--log_every", "1", "--validate_every", "1000"]
    sys.argv = ["train", *fixed, *RUNS[name]["arguments"], "--out_dir", f"runs/{name}", *more]
    return config.parse("train")[0]


class Watch:
    """What each step of an optimizer changes of the weights that this process holds, by phase in turn."""

    def __init__(self, cfg: Any, harm: tuple[int, int] | None, keep: bool) -> None:
        self.cfg, self.harm, self.keep = cfg, harm, keep
        self.changed: list[bool] = []
        self.before: Weights = []
        self.held: dict[int, Weights] = {}  # by optimizer
        self.hooks = [
            register_optimizer_step_pre_hook(self.begin),
            register_optimizer_step_post_hook(self.end),
            nn.modules.module.register_module_forward_hook(self.spoil),
        ]

    def own(self, optimizer: Any) -> Weights:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        return [(w.to_local() if hasattr(w, "to_local") else w).detach().clone() for w in weights]

    def begin(self, optimizer: Any, *_: object) -> None:
        self.before = self.own(optimizer)
        if self.keep and processes.rank() == 0:
            shutil.copytree(
                self.cfg.out_dir / "checkpoints", f"{self.cfg.out_dir}-kept/checkpoints", dirs_exist_ok=True
            )

    def end(self, optimizer: Any, *_: object) -> None:
        now = self.held[id(optimizer)] = self.own(optimizer)
        self.changed.append(not all(map(torch.equal, self.before, now)))

    def spoil(self, part: nn.Module, _: object, output: Tensor) -> None:
        """Of the last layer that this phase trains: the generator's gives two numbers."""
        step, phase = len(self.changed) // 2 + 1, len(self.changed) % 2
        last = processes.rank() == processes.world_size() - 1
        layer = isinstance(part, nn.Linear) and part.out_features == 1 + phase
        if layer and last and part.training and output.requires_grad and (step, phase) == self.harm:
            output.register_hook(lambda gradient: gradient * math.inf)

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


def train_all() -> None:
    new_scale = GradScaler.__init__
    device, _, *others = new_scale.__defaults__ or ()
    with processes.process_group(600):
        for name, wanted in RUNS.items():
            new_scale.__defaults__ = (device, wanted.get("scale", SCALE), *others)
            harm, resume = wanted.get("harm"), wanted.get("resume", False)
            watch, said = Watch(settings(name), harm and tuple(harm), resume), ""
            try:
                train.run(watch.cfg)
            except errors.UserError as error:
                said = str(error)
            watch.close()
            found = {"changed": watch.changed, "said": said, "weights": [*watch.held.values()]}
            torch.save(found, f"runs/{name}-{processes.rank()}.pt")
            for path in sorted(Path(f"runs/{name}-kept/checkpoints").glob("*.pt")) if resume else []:
                again = settings(name, "--resume", str(path))
                train.run(replace(again, out_dir=Path(f"runs/{name}-from-{int(path.stem[5:])}")))


def plain(cfg: Any, size: int, scale: float) -> dict[str, Any]:
    """Train on whole steps, all processes and batches at once; each phase has an optimizer and a schedule."""
    torch.manual_seed(cfg.seed)
    source, *_, about, assets = data.open_data(cfg.data)
    loss = objective.Objective(cfg.objective, about)
    net = model.build(cfg.model, about, assets, init=True).train()
    weights = {phase: loss.groups(net, phase) for phase in loss.phases}
    start = {f"net.{name}": value.clone() for name, value in net.state_dict().items()}
    shares = list(steps(len(source), cfg, size))
    optimizers = {phase: build_optimizer(weights[phase], cfg.optim) for phase in loss.phases}
    schedules = [
        OneCycleLR(each, cfg.optim.lr, len(shares) + 1)  # its last rate is that after the last step
        for each in optimizers.values()
        if cfg.optim.schedule == "onecycle"
    ]
    scaler = GradScaler("cpu", init_scale=scale, enabled=cfg.precision == "fp16")
    dtype = DTYPES.get(cfg.precision)
    for epoch, samples, batches in shares:
        for number, (phase, optimizer) in enumerate(optimizers.items()):
            sums = []
            for rank in range(size):
                seeding.seed_step(cfg.seed, epoch, samples, rank, number)
                with torch.autocast("cpu", dtype) if dtype else nullcontext():
                    sums += [loss.loss(net, source.batch(own[rank], None), phase) for own in batches]
            net.zero_grad()
            mean = sum(total for total, _ in sums) / sum(int(count) for _, count in sums)
            scaler.scale(mean).backward()  # what it adds to weights of the other phase is not used
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(weights[phase], cfg.optim.grad_clip or math.inf)
            scaler.step(optimizer)
            scaler.update()
        for schedule in schedules:
            schedule.step()
    moved = {phase: optimizer.state_dict()["state"] for phase, optimizer in optimizers.items()}
    module = {f"net.{name}": value for name, value in net.state_dict().items()}
    return {"start": start, "module": module, "states": moved, "scaler": scaler.state_dict()}


def build_optimizer(weights: list[nn.Parameter], cfg: Any) -> AdamW:
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in weights if weight.ndim > 1]},
        {"params": [weight for weight in weights if weight.ndim == 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, cfg.lr, weight_decay=cfg.weight_decay)


def steps(num_samples: int, cfg: Any, size: int) -> Iterator[tuple[int, int, list[list[list[int]]]]]:
    """Epoch, samples of it before the step, and the indices of each batch by process."""
    taken = size * cfg.data.batch_size
    for done, epoch in enumerate(range(cfg.epochs)):
        order = torch.randperm(num_samples, generator=seeding.generator(cfg.seed, epoch))
        batches = order[: num_samples // taken * taken].view(-1, size, cfg.data.batch_size).tolist()
        firsts = range(0, len(batches), cfg.optim.accumulate)
        for number, first in enumerate(firsts):
            if 0 < cfg.max_steps <= done * len(firsts) + number:
                return
            yield epoch, first * taken, batches[first : first + cfg.optim.accumulate]


def plain_all(size: int) -> None:
    torch.set_num_threads(1)
    for name, wanted in RUNS.items():
        result = plain(settings(name), size, wanted.get("scale", SCALE))
        torch.save(result, f"plain/{name}.pt")


if __name__ == "__main__":
    with suppress(FileExistsError):
        Path("plain" if COMMAND == "plain" else "runs").mkdir()
    train_all() if COMMAND == "train" else plain_all(int(REST[0]))
