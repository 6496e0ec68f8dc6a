"""What goes wrong in a run on purpose, inside a fork, and whether the run then ends as it should."""

import itertools
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.matrix.inside import RUN, run_command, slow_down_disk

NOT_FINITE = "error: step 1: its gradient was not finite"
NO_MEMORY = "error: memory ran out (no room). Lower data.batch_size"
UNTIL = 4  # steps that such a run has; an epoch has two


def is_trained(module: nn.Module) -> bool:
    """Whether it is the network with its objective, in a step; sharded, its class has a longer name."""
    return type(module).__name__.endswith("TrainingModule") and module.training


def num_phases(module: Any) -> int:
    """How often a batch is computed in a step."""
    return len(getattr(module.objective, "phases", ())) or 1


def poison_gradient() -> None:
    """In the first step the loss is NaN."""
    steps = itertools.count()

    def answer(module: nn.Module, _: object, output: tuple[Tensor, Tensor]) -> object:
        first = is_trained(module) and next(steps) == 0
        return (output[0] * torch.nan, output[1]) if first else None

    register_module_forward_hook(answer)  # type: ignore[arg-type]


def send_signal() -> None:
    """In the first step."""
    steps = itertools.count()
    register_optimizer_step_post_hook(
        lambda *_: os.kill(os.getpid(), signal.SIGUSR1) if next(steps) == 0 else None
    )


def fail() -> None:
    """In the last step."""
    raise_in_last_step(ValueError("broken"))


def run_out_of_memory() -> None:
    """In the last step."""
    raise_in_last_step(torch.OutOfMemoryError("no room"))


def raise_in_last_step(error: Exception) -> None:
    """Before it changes any weight: in its first phase, if it has several."""
    calls = itertools.count()

    def compute(module: nn.Module, _: object) -> None:
        if is_trained(module) and next(calls) == (UNTIL - 1) * num_phases(module):
            raise error

    register_module_forward_pre_hook(compute)


@dataclass(frozen=True)
class Harm:
    """Something that happens to the last of the processes, and what has to come of it in all of them."""

    cause: Callable[[], None]
    end: str  # the exit code, or how the message begins
    steps: tuple[int, ...]  # that the newest checkpoint may be of

    def wrong_end(self, arguments: list[str], slow_disk_s: float) -> str:
        """Train, come to harm, and say how the run did not end as it should."""
        if os.environ.get("RANK") == "0":
            slow_down_disk(slow_disk_s)
        if int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1:
            self.cause()
        if not (end := end_of_run(arguments)).startswith(self.end):
            return f"it ended with {end!r}, not with {self.end!r}"
        newest = max((Path(RUN) / "checkpoints").glob("step-*.pt"), default=Path("step-0"))
        if (step := int(newest.stem.removeprefix("step-"))) not in self.steps:
            return f"the newest checkpoint is that of step {step}, not {self.steps}"
        lost = not_finite(torch.load(newest, weights_only=True))
        return f"not finite in {newest.name}: {lost}" if lost else ""


def end_of_run(arguments: list[str]) -> str:
    """The exit code of a run, or the message that it ends with."""
    try:
        run_command("train", arguments)
    except (SystemExit, ValueError) as end:
        return str(end)
    return "0"


def not_finite(tree: object, name: str = "") -> list[str]:
    """The names of tensors that are not finite; single values, such as a best score, may be at first."""
    if isinstance(tree, Mapping):
        return [found for key, value in tree.items() for found in not_finite(value, f"{name}.{key}")]
    if isinstance(tree, list | tuple):
        return [found for value in tree for found in not_finite(value, name)]
    return [name] if isinstance(tree, Tensor) and tree.ndim and not tree.isfinite().all() else []


def harms(strategy: str, precision: str) -> dict[str, Harm]:
    """By name, those that a run has to withstand. A float16 run goes on, as its scaler needs such steps."""
    ends = "0" if precision == "fp16" else NOT_FINITE
    found = {
        "gradient": Harm(poison_gradient, ends, (UNTIL,) if precision == "fp16" else (1,)),
        "signal": Harm(send_signal, "75", (1,) if strategy == "single" else (1, 2)),
    }
    if strategy == "single":  # of several processes the others may be gone, so all of them end
        found["error"] = Harm(fail, "broken", (UNTIL - 1,))
        found["memory"] = Harm(run_out_of_memory, NO_MEMORY, (UNTIL - 1,))
    return found
