"""The best weights of a run in formats that need no training code: how they are written, checked and run.

    python -m <package>.export [--run DIR] [--format torch-export|onnx|torchscript ...]

An exported model goes from images as bytes to probabilities. No file takes its place before it was checked.
"""

import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn, onnx

from .config import LOG, Config, UserError, checked, parse, plain_errors, read_settings
from .data import WHITE, Shape, load_images
from .objective import probabilities
from .predict import Predictor
from .storage import save_json, sha256

Pixels = NDArray[np.uint8]  # [B, C, H, W]
Probabilities = NDArray[np.float32]  # [B, num_classes]
Run = Callable[[Pixels], Probabilities]

INPUT, OUTPUT = "images", "probabilities"
FILES = {"torch-export": "model.pt2", "onnx": "model.onnx", "torchscript": "model.ts"}
HELP = f"{', '.join(FILES)}; several with commas. Without it torch-export,onnx"
TOLERANCE = 1e-5  # largest difference from the plain model, in float32
NUM_CHECKED = 1000  # images that a file is checked with: real ones, then random ones
BATCH_ENDS = (1, 3, 10, *range(42, NUM_CHECKED, 32))  # batches of 1, 2, 7, 32, 32, ...


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


def load_plain(run: Path) -> Model:
    """The best weights of a run; raises `UserError` where there are none."""
    plain = Predictor(run, read_settings(run))
    return Model(runner(Classifier(plain.net)), plain.classes, plain.shape, sha256(run / "best.pt")[:12])


def load_exported(run: Path, name: str, num_threads: int = 1) -> Model:
    """A model that was exported; raises `UserError` if it is missing, damaged or gives other numbers.

    The run is not asked which file that is: one that holds data is never opened as one that can hold code.
    """
    with checked(f"run={run}: its {name} model", "Export it first."):
        path, about = run / "export" / FILES[name], json.loads((run / "export/model.json").read_text())
        if sha256(path) != about["files"][name]["sha256"]:
            raise UserError(f"{path}: it is not the file that model.json tells of. Export it again.")
        if name != "onnx":
            LOG.warning("%s is a program, which can do all that you can. Load none of a stranger's.", path)
        shape = TypeAdapter(Shape).validate_python(about["input"]["shape"][1:])
        classes = TypeAdapter(list[str]).validate_python(about["classes"])
        model = Model(load_file(path, num_threads), classes, shape, str(about["version"]))
        answers = model.run(sample(shape))
        if answers.shape != (2, len(classes)) or not np.allclose(answers, about["sample"], rtol=0, atol=TOLERANCE):
            raise UserError(f"{path}: it gives other numbers here than when it was exported.")
        return model


def load_file(path: Path, num_threads: int = 1) -> Run:
    """A function that runs the model in a file; the threads are those of ONNX Runtime."""
    if path.name == FILES["torch-export"]:
        logging.getLogger("torch.export").setLevel(logging.ERROR)  # of what is no model it would show a traceback
        return runner(torch.export.load(path).module())
    if path.name == FILES["torchscript"]:
        return runner(torch.jit.load(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads give way
    session = onnxruntime.InferenceSession(path, options, onnxruntime.get_available_providers())
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def runner(module: nn.Module) -> Run:
    """Call a module with arrays."""
    return torch.inference_mode()(lambda images: module(torch.from_numpy(images)).numpy())


def sample(shape: Shape) -> Pixels:
    """Two images that are the same everywhere; the answers to them tell whether a model is what it was."""
    values = np.arange(2 * np.prod(shape)) * 37 % (WHITE + 1)
    return values.astype(np.uint8).reshape(2, *shape)


def export(run: Path, cfg: Config, formats: list[str]) -> dict[str, Any]:
    """Write the formats and `model.json`; return its content. Raises `UserError` if one is not exact."""
    predictor = Predictor(run, cfg)
    classifier, shape = Classifier(predictor.net).eval(), predictor.shape
    images, plain, new = checked_images(cfg, shape), runner(classifier), run / "export.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    files = {}
    for name in formats:
        path = new / FILES[name]
        write(classifier, torch.from_numpy(sample(shape)), path)
        error = largest_error(path, plain, images)
        files[name] = {"file": path.name, "sha256": sha256(path), "max_abs_error": error}
    about = {
        "schema": 1,
        "version": sha256(run / "best.pt")[:12],
        "classes": predictor.classes,
        "input": {"name": INPUT, "shape": ["batch", *shape], "dtype": "uint8"},
        "output": {"name": OUTPUT, "shape": ["batch", len(predictor.classes)], "dtype": "float32"},
        "files": files,
        "sample": plain(sample(shape)).tolist(),
        "made_with": {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")},
    }
    save_json(new / "model.json", about)
    shutil.rmtree(run / "export", ignore_errors=True)
    new.rename(run / "export")
    return about


def checked_images(cfg: Config, shape: Shape) -> Pixels:
    """Half of them of the test split, or all that it has, and the others random."""
    real = load_images(cfg.data).test.tensors[0][: NUM_CHECKED // 2]
    if real.shape[1:] != shape:
        raise UserError(f"data.root={cfg.data.root}: the model takes images of another shape, {list(shape)}.")
    noise = np.random.default_rng(0).integers(WHITE + 1, size=(NUM_CHECKED, *shape), dtype=np.uint8)
    return np.concatenate([real.numpy(), noise])[:NUM_CHECKED]


def largest_error(path: Path, plain: Run, images: Pixels) -> float:
    """By how much a file's answers differ from the plain model's; raises `UserError` for too much."""
    run, worst, first = load_file(path), 0.0, 0
    for batch in np.split(images, BATCH_ENDS):
        expected, got = plain(batch), run(batch)
        errors = np.abs(got - expected).max(axis=1)
        wrong = (got.argmax(axis=1) != expected.argmax(axis=1)) | ~(errors <= TOLERANCE)
        if wrong.any():
            i = int(wrong.argmax())
            classes = f"class {expected[i].argmax()} became {got[i].argmax()}, probabilities differ by {errors[i]:.2g}"
            where = f"Image {first + i} of {NUM_CHECKED}, in a batch of {len(batch)}"
            raise UserError(f"{path.name}: it does not answer as the plain model. {where}: {classes}.")
        worst, first = max(worst, float(errors.max())), first + len(batch)
    return worst


def write(classifier: Classifier, images: Tensor, path: Path) -> None:
    """Write a file in the format that its name tells, for batches of any size."""
    if path.name == FILES["torchscript"]:
        print("TorchScript is PyTorch's legacy format; prefer torch-export or onnx.", file=sys.stderr)
        return torch.jit.save(torch.jit.trace(classifier, (images,)), path)
    batch = {INPUT: {0: torch.export.Dim("batch", min=1)}}
    graph = torch.export.export(classifier, (images,), dynamic_shapes=batch)
    if path.name == FILES["torch-export"]:
        return torch.export.save(graph, path)
    onnx.export(graph, f=path, input_names=[INPUT], output_names=[OUTPUT], external_data=False, verbose=False)
    return None


def read_formats(given: list[str] | None) -> list[str]:
    """The formats of `--format`, each of which may name several."""
    formats = [name for names in given or ["torch-export,onnx"] for name in names.split(",")]
    if unknown := [name for name in formats if name not in FILES]:
        raise UserError(f"format={unknown[0]}: give some of {', '.join(FILES)}.")
    return list(dict.fromkeys(formats))


def main() -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names packages that nothing here needs
    warnings.filterwarnings("ignore", module="torch|copyreg")  # of formats: `write` says what matters
    with plain_errors():
        cfg, args = parse("export", of_run=True, **{"--format": {"action": "append", "help": HELP}})
        for name, entry in export(args.run, cfg, read_formats(args.format))["files"].items():
            print(f"{args.run / 'export' / entry['file']}: {name}, exact to {entry['max_abs_error']:.1g}")


if __name__ == "__main__":
    main()
