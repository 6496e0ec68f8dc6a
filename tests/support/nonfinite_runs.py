"""Poison gradients at random steps and ranks and look at what changes. A script, no test:

python tests/support/nonfinite_runs.py PACKAGE TIMES SAMPLES

SAMPLES are those of a batch of all processes, of which an epoch has at least nine.
"""

import importlib
import random
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

PACKAGE, TIMES, SAMPLES = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config, errors, objective, task, train = (
    importlib.import_module(f"{PACKAGE}.{name}")
    for name in ("config", "errors", "task.objective", "task.settings", "train")
)
processes = importlib.import_module("of_package").processes_of(PACKAGE)  # beside this script
LOG_EVERY = 3
PHASES = len(getattr(objective.Objective, "phases", ())) or 1  # of a step
# All numbers of a state are compared, so there are few.
SMALL = {"buckets": 512} if "buckets" in task.ModelConfig.__dataclass_fields__ else {}


def own(tensor: Tensor) -> list[float]:
    """What this process holds of a tensor."""
    part = tensor.detach()
    values: list[float] = (part.to_local() if isinstance(part, DTensor) else part).flatten().tolist()
    return values


class Poison:
    """Makes the losses of some steps NaN, in one process, and notes the state after each of them."""

    def __init__(self, first: int, last: int, rank: int) -> None:
        self.bad, self.rank = range(first, last + 1), rank
        self.states: list[list[list[float]]] = []
        self.phases: list[list[list[float]]] = []  # of the step in hand

    def note(self, optimizer: Optimizer, *_: object) -> None:
        weights = [own(weight) for group in optimizer.param_groups for weight in group["params"]]
        moments = [v for values in optimizer.state.values() for k, v in values.items() if k != "average"]
        self.phases.append(weights + [own(moment) for moment in moments])  # an average follows what stays
        if len(self.phases) == PHASES:
            self.states.append([values for phase in self.phases for values in phase])
            self.phases.clear()

    def poison(self, module: nn.Module, _: object, output: Any) -> Any:
        now = len(self.states) + 1
        trained = type(module).__name__.endswith("TrainingModule") and module.training
        if not trained or processes.rank() != self.rank or now not in self.bad:
            return output
        total, count = output
        return total * float("nan"), count


def poisoned(cfg: Any, step: int, last: int, rank: int) -> list[list[list[float]]]:
    """Train; return the states after each step."""
    poison = Poison(step, last, rank)
    hooks = (
        register_optimizer_step_post_hook(poison.note),
        nn.modules.module.register_module_forward_hook(poison.poison),
    )
    try:
        train.run(cfg)
    except errors.UserError as error:
        if f"step {step}:" not in str(error):
            raise
    else:
        assert cfg.precision == "fp16", "this run should have ended"
        assert last == step, "this one, too"
    finally:
        for hook in hooks:
            hook.remove()
    return poison.states


def main() -> None:
    chance = random.Random(TIMES)
    with processes.process_group(600):
        for number in range(3 * TIMES):
            precision = ("fp32", "bf16", "fp16")[number % 3]
            step, rank = chance.randint(2, 8), chance.randrange(processes.world_size())
            cfg = config.Config(
                epochs=2,
                log_every=LOG_EVERY,
                num_threads=1,
                precision=precision,
                ema_decay=0.9,
                out_dir=Path(f"runs/{number}"),
                data=task.DataConfig(batch_size=SAMPLES // processes.world_size()),
                model=task.ModelConfig(width=4, **SMALL),
            )
            states = poisoned(cfg, step, step, rank)
            assert states[step - 1] == states[step - 2], (precision, step, rank)
            if precision != "fp16":  # which goes on, as its scaler may need such a step
                assert len(states) == step or states[step] != states[step - 1]
                assert len(states) == -(-step // LOG_EVERY) * LOG_EVERY
            if processes.rank() == 0:
                print("never applied", flush=True)


if __name__ == "__main__":
    main()
