"""What goes wrong in a run on purpose, inside a fork, and whether the run then ends as it should."""

import itertools
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.matrix.inside import RUN, remember_pictures, run_verb

NOT_FINITE = "error: step 1: its gradient was not finite"
UNTIL = 4  # steps that such a run has; an epoch has two
TOO_MANY = 250  # samples for the memory that there is; half of a batch fits


def poison_gradient() -> None:
    """In the first step the network answers NaN."""
    steps = itertools.count()

    def answer(module: nn.Module, _: object, output: Tensor) -> Tensor | None:
        first = isinstance(module, nn.Linear) and module.training and next(steps) == 0
        return output * torch.nan if first else None

    register_module_forward_hook(answer)  # type: ignore[arg-type]


def send_signal() -> None:
    """In the first step."""
    steps = itertools.count()
    register_optimizer_step_post_hook(
        lambda *_: os.kill(os.getpid(), signal.SIGUSR1) if next(steps) == 0 else None
    )


def fail() -> None:
    """In the last step."""
    steps = itertools.count(1)

    def compute(module: nn.Module, _: object) -> None:
        if isinstance(module, nn.Linear) and module.training and next(steps) == UNTIL:
            raise ValueError("broken")

    register_module_forward_pre_hook(compute)


def run_out_of_memory() -> None:
    """Whenever the network is trained with a whole batch."""

    def compute(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if isinstance(module, nn.Linear) and module.training and len(inputs[0]) > TOO_MANY:
            raise torch.OutOfMemoryError("out of memory")

    register_module_forward_pre_hook(compute)


@dataclass(frozen=True)
class Harm:
    """Something that happens to the last of the processes, and what has to come of it in all of them."""

    cause: Callable[[], None]
    end: str  # the exit code, or how the message begins
    steps: tuple[int, ...]  # that the newest checkpoint may be of
    micro_batches: int = 1

    def wrong_end(self, arguments: list[str], pictures: Path) -> str:
        """Train, come to harm, and say how the run did not end as it should."""
        remember_pictures(pictures)
        if int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1:
            self.cause()
        if not (end := end_of_run(arguments)).startswith(self.end):
            return f"it ended with {end!r}, not with {self.end!r}"
        newest = max((Path(RUN) / "checkpoints").glob("step-*.pt"))
        if (step := int(newest.stem.removeprefix("step-"))) not in self.steps:
            return f"the newest checkpoint is that of step {step}, not {self.steps}"
        if lost := not_finite(torch.load(newest, weights_only=True)):
            return f"not finite in {newest.name}: {lost}"
        settings = yaml.safe_load((Path(RUN) / "config.yaml").read_text())
        parts = settings["micro_batches"]
        return (
            "" if parts == self.micro_batches else f"it had {parts} micro-batches, not {self.micro_batches}"
        )


def end_of_run(arguments: list[str]) -> str:
    """The exit code of a run, or the message that it ends with."""
    try:
        run_verb("train", arguments)
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
        found["memory"] = Harm(run_out_of_memory, "0", (UNTIL,), micro_batches=2)
    return found
