"""What moves the weights where a step has phases, each with its own optimizer: `Objective.phases`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: if strategy == "fsdp"
from torch.amp import GradScaler
from torch.distributed.fsdp import FSDPModule

#: endif
#: if strategy != "fsdp"
from torch.amp import GradScaler

#: endif
from ..config import Config
from ..runs.progress import Progress
from .module import TrainingModule
from .optim import Update, trained_weights


class Updates(Update):
    """The updates of all phases as one; of a task without phases, that of all weights."""

    def __init__(self, module: TrainingModule, cfg: Config, scaler: GradScaler) -> None:
        self.module, objective = module, module.objective
        named: tuple[str, ...] = getattr(objective, "phases", ())
        groups: Any = getattr(objective, "groups", None)
        weights = {phase: groups(module.net, phase) for phase in named} or {"": trained_weights(module)}
        self.phases = {phase: Update(module, group, cfg, scaler) for phase, group in weights.items()}
        self.losses = tuple(map(self.name, self.phases))
        names = {id(weight): name for name, weight in module.named_parameters()}
        # By their names: while a module is whole, sharded weights are other objects.
        self.names = {phase: {names[id(weight)] for weight in group} for phase, group in weights.items()}

    @staticmethod
    def name(phase: str) -> str:
        """What the loss of a phase is logged as."""
        return f"train/{phase}_loss" if phase else "train/loss"

    @staticmethod
    def argument(phase: str) -> tuple[str, ...]:
        """What `Objective.loss` is given besides model and batch."""
        return (phase,) if phase else ()

    @contextmanager
    def only(self, phase: str) -> Iterator[None]:
        """Let only the weights of a phase have gradients; others are constants meanwhile."""
        #: if strategy == "fsdp"
        if isinstance(self.module, FSDPModule):
            self.module.reshard()  # a validation leaves it whole: what is frozen then would not be for the second batch
        #: endif
        chosen = self.names[phase] | {"tally"}
        others = [w for name, w in self.module.named_parameters() if w.requires_grad and name not in chosen]
        for weight in others:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in others:
                weight.requires_grad_(True)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return next(iter(self.phases.values())).rate

    def set_rate(self, progress: Progress) -> None:
        for update in self.phases.values():
            update.set_rate(progress)

    def failed_step(self) -> int:
        """The first step that a phase skipped and should not have skipped, or 0."""
        return min(filter(None, [update.failed_step() for update in self.phases.values()]), default=0)

    def has_begun(self, step: int) -> bool:
        """Whether the weights may have been changed by this step."""
        return any(update.has_begun(step) for update in self.phases.values())

    def swap(self) -> None:
        """Exchange weights and their averages, before a validation and after it."""
        for update in self.phases.values():
            update.swap()

    def state_dict(self) -> dict[str, Any]:
        return {phase: update.state_dict() for phase, update in self.phases.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for phase, update in self.phases.items():
            update.load_state_dict(state[phase])
