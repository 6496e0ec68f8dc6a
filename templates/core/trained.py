"""A trained model: the best weights of a run, with its data description and assets."""

import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import seeding
from .config import Config
from .errors import LOG, UserError, checked
from .runs.files import load_best, load_weights, sha256
from .task import inputs
from .task.inputs import Arrays
from .task.model import build
from .task.objective import Objective
from .training.loading import build_eval_loader, to_device

Run = Callable[[Arrays], Arrays]


class Trained:
    """The network with the best weights of a run, in eval mode on the CPU; raises `UserError` if there are none."""

    def __init__(self, run: Path, cfg: Config) -> None:
        best, weights = load_best(run)
        with checked(run / "best.json"):
            self.about: dict[str, Any] = best["about"]
            self.assets = read_assets(run, best["assets"])
            self.net: nn.Module = build(cfg.model, self.about, self.assets, init=False).eval()
        load_weights(self.net, weights, run / "best.pt")
        self.exported = inputs.Exported(self.net).eval()  # the module that is exported: see `task/inputs.py`
        self.answer = runner(self.exported)  # a function from a batch to answers, like an exported model


def read_assets(run: Path, digests: dict[str, str]) -> dict[str, bytes]:
    """The files of these names and hashes in `assets/` of a run; raises `UserError` where one is another."""
    for name, digest in digests.items():
        if Path(name).name != name or sha256(run / "assets" / name) != digest:
            raise UserError(f"{run / 'assets' / name}: it is not the file that this model was trained with.")
    return {name: (run / "assets" / name).read_bytes() for name in digests}


def runner(module: nn.Module) -> Run:
    """A function that calls a module with the signature of `inputs.Exported` on arrays by name."""

    @torch.inference_mode()
    def run(arrays: Arrays) -> Arrays:
        answers = module(*(torch.from_numpy(arrays[name]) for name in inputs.INPUTS))
        parts = answers if isinstance(answers, tuple) else (answers,)
        return {name: part.numpy() for name, part in zip(inputs.OUTPUTS, parts, strict=True)}

    return run


@torch.inference_mode()
def evaluate(run: Path, cfg: Config) -> dict[str, float]:
    """The scores of a run on the test split, on the GPU if there is one."""
    from .task.data import open_data  # brings what reads data, which predictions do not need

    trained, data = Trained(run, cfg), open_data(cfg.data)
    if json.loads(json.dumps(data.about)) != trained.about:
        raise UserError(f"{run}: it was trained on other data: their description, `about`, differs.")
    if (path := run / "run.json").exists():
        with checked(path):
            if json.loads(path.read_text())["data"] != data.train.fingerprint:
                LOG.warning("%s: the training split has other samples now than those that it was trained on.", run)
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
    """Name and prediction of each input that the arguments name."""
    trained, own = Trained(run, cfg), getattr(inputs, "predict", None)  # of a task that calls the network repeatedly
    for name, sample in chain.from_iterable(inputs.read(argument, trained.about, cfg.data) for argument in arguments):
        if own:
            yield name, own(trained.net, sample, trained.about, trained.assets)
        else:
            yield name, inputs.predictions(trained.answer(inputs.collate([sample])), trained.about)[0]
