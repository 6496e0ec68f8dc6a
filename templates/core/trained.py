"""A trained model: the best weights of a run, and all that goes with them."""

import json
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import seeding
from .config import Config
from .errors import UserError, checked
from .runs.files import load_best, load_weights, sha256
from .task import inputs
from .task.data import open_data
from .task.inputs import Arrays
from .task.model import build
from .task.objective import Objective
from .training.loading import build_eval_loader, to_device

Run = Callable[[Arrays], Arrays]


class Trained:
    """The network with the best weights of a run, in eval mode on the CPU; raises `UserError` where there are none."""

    def __init__(self, run: Path, cfg: Config) -> None:
        best, weights = load_best(run)
        with checked(run / "best.json"):
            self.about: dict[str, Any] = best["about"]
            for name, digest in best["assets"].items():
                if Path(name).name != name or sha256(run / "assets" / name) != digest:
                    raise UserError(f"{run / 'assets' / name}: it is not the file that this model was trained with.")
            self.assets = {name: (run / "assets" / name).read_bytes() for name in best["assets"]}
            self.net: nn.Module = build(cfg.model, self.about, self.assets, init=False).eval()
        load_weights(self.net, weights, run / "best.pt")

    @cached_property
    def exported(self) -> nn.Module:
        """What is exported: see `task/inputs.py`."""
        return inputs.Exported(self.net).eval()

    @cached_property
    def answer(self) -> Run:
        """Answers batches as the exported model does."""
        return runner(self.exported)


def runner(module: nn.Module) -> Run:
    """A function that calls a module, which takes and gives what `inputs.Exported` does, with arrays by name."""

    @torch.inference_mode()
    def run(arrays: Arrays) -> Arrays:
        answers = module(*(torch.from_numpy(arrays[name]) for name in inputs.INPUTS))
        parts = answers if isinstance(answers, tuple) else (answers,)
        return {name: part.numpy() for name, part in zip(inputs.OUTPUTS, parts, strict=True)}

    return run


@torch.inference_mode()
def evaluate(run: Path, cfg: Config) -> dict[str, float]:
    """The scores of a run on the test split, on the GPU if there is one."""
    trained, data = Trained(run, cfg), open_data(cfg.data)
    if json.loads(json.dumps(data.about)) != trained.about:
        raise UserError(f"{run}: these data are described otherwise than those that it was trained on.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    objective = Objective(cfg.objective, data.about)
    if [*objective.parameters()]:
        with checked(file := run / "objective.pt", "Train again, or give the file that was saved with best.pt."):
            load_weights(objective, torch.load(file, map_location="cpu", weights_only=True), file)
    net, objective, sums = trained.net.to(device), objective.to(device), dict[str, Tensor]()
    for number, batch in enumerate(build_eval_loader(data.test, cfg), start=1):
        for name, value in objective.measure(net, to_device(batch, device), seeding.generator(number, 0)).items():
            sums[name] = sums[name] + value if name in sums else value
    return objective.scores({name: value.cpu() for name, value in sums.items()})


def predict(run: Path, cfg: Config, arguments: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and prediction of each input that the arguments stand for."""
    trained = Trained(run, cfg)
    for name, sample in chain.from_iterable(inputs.read(argument, trained.about, cfg.data) for argument in arguments):
        answers = trained.answer(inputs.collate([sample]))
        yield name, inputs.predictions(answers, trained.about)[0]
