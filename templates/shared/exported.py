"""Models that answer without the training code: from images as bytes to probabilities."""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .config import Config, UserError
from .data import WHITE, Shape
from .objective import probabilities
from .predict import Predictor

Pixels = NDArray[np.uint8]  # [B, C, H, W]
Probabilities = NDArray[np.float32]  # [B, num_classes]
Run = Callable[[Pixels], Probabilities]

SCHEMA = 1  # of model.json
INPUT, OUTPUT = "images", "probabilities"
FILES = {"torch-export": "model.pt2", "onnx": "model.onnx", "torchscript": "model.ts"}
VERSION_DIGITS = 12  # of the hash of best.pt
TOLERANCE = 1e-5  # largest difference from the plain model, in float32


class Classifier(nn.Module):
    """What is exported: the network, with all that stands before and after it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return probabilities(self.net(images / WHITE))


@dataclass(frozen=True)
class Model:
    """A model, and what its answers mean."""

    run: Run
    classes: list[str]
    shape: Shape
    version: str  # of the weights, whatever format they are in


def load_plain(run: Path, cfg: Config) -> Model:
    """The best weights of a run."""
    predictor = Predictor(run, cfg)
    version = sha256(run / "best.pt")[:VERSION_DIGITS]
    return Model(run_torch(Classifier(predictor.net).eval()), predictor.classes, predictor.shape, version)


def load_exported(run: Path, name: str, num_threads: int = 1) -> Model:
    """A model that was exported; raises `UserError` if it is missing, damaged or gives other numbers."""
    try:
        about = json.loads((run / "export/model.json").read_text())
        entry, shape = about["files"][name], tuple(about["input"]["shape"][1:])
        path = run / "export" / entry["file"]
        damaged = sha256(path) != entry["sha256"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"run={run}: it holds no {name} model ({error!r}). Export it first.") from None
    if damaged:
        raise UserError(f"{path}: it is not the file that model.json tells of. Export it again.")
    model = Model(load(path, num_threads), about["classes"], shape, about["version"])
    if not np.allclose(model.run(sample(shape)), about["sample"], rtol=0, atol=TOLERANCE):
        raise UserError(f"{path}: it gives other numbers here than when it was exported.")
    return model


def load(path: Path, num_threads: int = 1) -> Run:
    """A function that runs the model in a file, chosen by the file's suffix."""
    if path.suffix == ".onnx":
        return run_onnx(path, num_threads)
    if path.suffix == ".pt2":
        return run_torch(torch.export.load(path).module())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # `export` has said that it is legacy
        return run_torch(torch.jit.load(path))


def sample(shape: Shape) -> Pixels:
    """Two images that are the same everywhere; the answers to them tell whether a model is what it was."""
    values = np.arange(2 * np.prod(shape)) * 37 % (WHITE + 1)
    return values.astype(np.uint8).reshape(2, *shape)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_torch(module: Callable[[Tensor], Any]) -> Run:
    @torch.inference_mode()
    def run(images: Pixels) -> Probabilities:
        answer: Probabilities = module(torch.from_numpy(images)).numpy()
        return answer

    return run


def run_onnx(path: Path, num_threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads give way
    session = onnxruntime.InferenceSession(path, options, onnxruntime.get_available_providers())

    def run(images: Pixels) -> Probabilities:
        answer: Probabilities = session.run([OUTPUT], {INPUT: images})[0]
        return answer

    return run
