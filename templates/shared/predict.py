"""Predict the class of images: `python -m <package>.predict [--run DIR] IMAGE|FOLDER|ARRAY.npy ...`

Prints a line of JSON for each image.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt, TypeAdapter
from torch import Tensor

from . import data, objective, storage
from .config import Config, checked, parse, plain_errors
from .model import Net


class Predictor:
    """The best weights of a run; raises `UserError` where there are none, or those of another model."""

    def __init__(self, run: Path, cfg: Config) -> None:
        with checked(f"run={run}: best.pt or best.json", "Train first, or name a run with --run."):
            best, weights = storage.load_best(run)
            self.classes = TypeAdapter(list[str]).validate_python(best["classes"])
            self.shape = TypeAdapter(tuple[PositiveInt, PositiveInt, PositiveInt]).validate_python(best["shape"])
            self.net = Net(cfg.model, self.shape[0], len(self.classes)).eval()
            storage.load_weights(self.net, weights, run / "best.pt")

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[dict[str, Any]]:
        """The most probable class of each image; bytes [B, C, H, W]."""
        return name_best(objective.probabilities(self.net(images / data.WHITE)).numpy(), self.classes)


def name_best(probabilities: NDArray[np.float32], classes: list[str]) -> list[dict[str, Any]]:
    """The most probable class of each row [B, C]."""
    best = enumerate(probabilities.argmax(axis=1).tolist())
    return [{"label": classes[i], "index": i, "probability": round(probabilities.item(row, i), 6)} for row, i in best]


def read_inputs(names: list[str], shape: data.Shape, skip_bad: bool) -> Iterator[tuple[str, Tensor]]:
    """The name of every input, and the image as bytes [C, H, W]; `skip_bad` is for those in folders."""
    for path in map(Path, names):
        if path.suffix == ".npy":
            yield from ((f"{path}[{i}]", image) for i, image in enumerate(_read_array(path, shape)))
        elif path.is_dir():
            yield from ((str(file), image) for file, image in data.load_folder(path, shape, skip_bad))
        else:
            yield str(path), data.load_image(path, shape)


def _read_array(path: Path, shape: data.Shape) -> Tensor:
    """One or several images, in numbers that `data.to_bytes` takes."""
    with checked(path, f"An array of images {list(shape)} is needed."):
        return torch.from_numpy(data.to_bytes(np.load(path, allow_pickle=False))).reshape(-1, *shape)


def main() -> None:
    with plain_errors():
        cfg, args = parse("predict", of_run=True, inputs={"nargs": "+", "help": "images, folders of them, .npy arrays"})
        predictor = Predictor(args.run, cfg)
        for name, image in read_inputs(args.inputs, predictor.shape, cfg.data.skip_bad):
            print(json.dumps({"input": name, **predictor(image.unsqueeze(0))[0]}))


if __name__ == "__main__":
    main()
