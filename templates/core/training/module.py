"""Network and objective as one module, and the weights that they start with."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import Config
from ..errors import UserError, checked
from ..interface import Batch, Data
from ..runs.files import load_checkpoint, load_weights
from ..runs.progress import START
from ..task.data import open_data
from ..task.model import build
from ..task.objective import Objective
from . import checks


class TrainingModule(nn.Module):
    """Its forward is the loss, and it is what DDP and FSDP wrap.

    So a loss may call any part of the network, and parameters of the objective are trained and saved as well.
    """

    def __init__(self, net: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.net, self.objective = net, objective
        self.tally = nn.Parameter(torch.zeros(1))  # always 0, and in no optimizer: see `optim.Guard`

    #: if optimizers == "one"
    def forward(self, batch: Batch, *, generator: torch.Generator | None = None) -> Any:
        """The sum of the loss and its count; with a generator, the sums that `Objective.measure` returns."""
        if generator is not None:
            return self.objective.measure(self.net, batch, generator)
        total, count = checks.check_loss(self.objective.loss(self.net, batch))
        return total + self.tally.squeeze() * count, count


    #: endif
    #: if optimizers == "several"
    def forward(self, batch: Batch, *phase: str, generator: torch.Generator | None = None) -> Any:
        """The sum of a phase's loss and its count; with a generator, the sums that `Objective.measure` returns."""
        if generator is not None:
            return self.objective.measure(self.net, batch, generator)
        total, count = checks.check_loss(self.objective.loss(self.net, batch, *phase))
        return total + self.tally.squeeze() * count, count


#: endif
def load_data(cfg: Config) -> Data:
    """The task's data; raises `UserError` where it is not what `interface` says."""
    checks.check_interface()
    data = open_data(cfg.data)
    checks.check_data(data, cfg)
    return data


def build_objective(cfg: Config, data: Data) -> Objective:
    """The objective; raises `UserError` if it has no score of the name that `objective.monitor` gives."""
    objective = Objective(cfg.objective, data.about)
    checks.check_objective(objective)
    return objective


def build_module(cfg: Config, data: Data) -> TrainingModule:
    """The network with its first weights, and the objective."""
    torch.manual_seed(cfg.seed)
    objective = build_objective(cfg, data)
    return TrainingModule(build(cfg.model, data.about, data.assets, init=True), objective)


def load_saved(path: Path, module: TrainingModule, data: Data) -> dict[str, Any]:
    """Read a checkpoint, and its weights into the module; raises `UserError` if model or data are others."""
    saved = load_checkpoint(path)
    with checked(path):
        fingerprint, count = saved["fingerprint"]
        if fingerprint != data.train.fingerprint:
            counts = f"{count:,} samples then, {len(data.train):,} now"
            other = f"it was trained on other data: Source.fingerprint is another ({counts})"
            raise UserError(f"{path}: {other}. Start a new run from its weights: --init_from {path.parent.parent}")
        load_weights(module, saved.pop("module"), path)
        saved["progress"] = {name: type(value)(saved["progress"][name]) for name, value in START.items()}
    return saved


def load_first_weights(path: Path, module: TrainingModule) -> None:
    """Start from the weights of a run, or of a file: a `best.pt`, or a checkpoint.

    Parameters that the objective has learned come too, from the checkpoint or from the `objective.pt` beside the file;
    those that are not there stay as they are. Its buffers follow from the data, and are not loaded.
    """
    file = path / "best.pt" if path.is_dir() else path
    with checked(f"init_from={path}", "Give the folder of a run, its best.pt or a checkpoint."):
        saved = torch.load(file, map_location="cpu", weights_only=True)
        if "fingerprint" in saved:  # a checkpoint
            net, learned = (
                {name.removeprefix(part): value for name, value in saved["module"].items() if name.startswith(part)}
                for part in ("net.", "objective.")
            )
        else:
            net, beside = saved, file.with_name("objective.pt")
            learned = torch.load(beside, map_location="cpu", weights_only=True) if beside.exists() else {}
        load_weights(module.net, net, file)
        names = {name for name, _ in module.objective.named_parameters()} & learned.keys()
        load_weights(module.objective, module.objective.state_dict() | {name: learned[name] for name in names}, file)
