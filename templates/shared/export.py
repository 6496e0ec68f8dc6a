"""Write the best weights of a run in formats that need no training code, into its `export/`.

    python -m <package>.export [--run DIR] [--format torch-export|onnx|torchscript ...]

Every file is checked against the plain model before any takes its place.
"""

import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch
from torch import Tensor

from .config import Config, UserError, parse, plain_errors
from .data import WHITE, Shape, load_images
from .exported import (
    FILES,
    INPUT,
    OUTPUT,
    SCHEMA,
    TOLERANCE,
    VERSION_DIGITS,
    Classifier,
    Pixels,
    Run,
    load,
    run_torch,
    sample,
    sha256,
)
from .predict import Predictor
from .seeding import generator
from .storage import save_json

FORMAT = {
    "action": "append",
    "help": f"{', '.join(FILES)}; several with commas. torch-export,onnx without it",
}
NUM_CHECKED = 1000  # images that a file is checked with: real ones, then random ones
BATCH_SIZES = (1, 2, 7, 32)  # in turn


def export(run: Path, cfg: Config, formats: list[str]) -> dict[str, Any]:
    """Write the formats and `model.json`; return its content. Raises `UserError` if one is not exact."""
    predictor = Predictor(run, cfg)
    classifier, shape = Classifier(predictor.net).eval(), predictor.shape
    images, plain = checked_images(cfg, shape), run_torch(classifier)
    new = run / "export.new"  # takes the place of an earlier export once all of it is right
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    files = {}
    for name in formats:
        path = new / FILES[name]
        WRITERS[name](classifier, torch.from_numpy(sample(shape)), path)
        error = largest_error(path, plain, images)
        files[name] = {"file": path.name, "sha256": sha256(path), "max_abs_error": error}
    about = {
        "schema": SCHEMA,
        "version": sha256(run / "best.pt")[:VERSION_DIGITS],
        "classes": predictor.classes,
        "input": {"name": INPUT, "shape": ["batch", *shape], "dtype": "uint8"},
        "output": {"name": OUTPUT, "shape": ["batch", len(predictor.classes)], "dtype": "float32"},
        "files": files,
        "sample": plain(sample(shape)).tolist(),
        "made_with": {tool.__name__: tool.__version__ for tool in (torch, onnx, onnxscript, onnxruntime)},
    }
    save_json(new / "model.json", about)
    shutil.rmtree(run / "export", ignore_errors=True)
    new.rename(run / "export")
    return about


def checked_images(cfg: Config, shape: Shape) -> Pixels:
    """Half of them of the test split, or all that it has, and the others random."""
    real = load_images(cfg.data).test.images[: NUM_CHECKED // 2]
    if real.shape[1:] != shape:
        raise UserError(
            f"data.root={cfg.data.root}: its images have not the shape {list(shape)} of the model."
        )
    count = (NUM_CHECKED - len(real), *shape)
    noise = torch.randint(WHITE + 1, count, dtype=torch.uint8, generator=generator(0))
    return torch.cat([real, noise]).numpy()


def largest_error(path: Path, plain: Run, images: Pixels) -> float:
    """By how much a file's answers differ from the plain model's; raises `UserError` for too much."""
    exported, worst = load(path), 0.0
    for first, last in batches(len(images)):
        expected, got = plain(images[first:last]), exported(images[first:last])
        error = float(np.abs(got - expected).max())
        wrong = np.flatnonzero(got.argmax(1) != expected.argmax(1))
        if not error <= TOLERANCE or len(wrong):
            where = int(wrong[0] if len(wrong) else np.abs(got - expected).max(1).argmax())
            raise UserError(
                f"{path.name}: it does not answer as the plain model does. Image {first + where} of"
                f" {len(images)}, in a batch of {last - first}: class {expected[where].argmax()} became"
                f" {got[where].argmax()}, probabilities differ by {error:.2g} (allowed: {TOLERANCE:g})."
            )
        worst = max(worst, error)
    return worst


def batches(count: int) -> Iterator[tuple[int, int]]:
    """Where batches of different sizes begin and end."""
    first, turn = 0, 0
    while first < count:
        last = min(count, first + BATCH_SIZES[turn % len(BATCH_SIZES)])
        yield first, last
        first, turn = last, turn + 1


def export_program(classifier: Classifier, images: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(
        classifier, (images,), dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}}
    )


def write_torch_export(classifier: Classifier, images: Tensor, path: Path) -> None:
    torch.export.save(export_program(classifier, images), path)


def write_onnx(classifier: Classifier, images: Tensor, path: Path) -> None:
    torch.onnx.export(
        export_program(classifier, images),
        (),
        path,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def write_torchscript(classifier: Classifier, images: Tensor, path: Path) -> None:
    print("TorchScript is PyTorch's legacy format; prefer torch-export or onnx.", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is legacy, and of a shape check that it cannot follow
        torch.jit.save(torch.jit.trace(classifier, (images,)), path)


WRITERS: dict[str, Callable[[Classifier, Tensor, Path], None]] = {
    "torch-export": write_torch_export,
    "onnx": write_onnx,
    "torchscript": write_torchscript,
}


def read_formats(given: list[str] | None) -> list[str]:
    """The formats of `--format`, each of which may name several."""
    formats = [name for names in given or ["torch-export,onnx"] for name in names.split(",")]
    if unknown := [name for name in formats if name not in FILES]:
        raise UserError(f"format={unknown[0]}: give some of {', '.join(FILES)}.")
    return list(dict.fromkeys(formats))


def main() -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names packages that nothing here needs
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.", FutureWarning)  # torch's own
    with plain_errors():
        cfg, args = parse("export", of_run=True, **{"--format": FORMAT})
        about = export(args.run, cfg, read_formats(args.format))
        for name, entry in about["files"].items():
            print(f"{args.run / 'export' / entry['file']}: {name}, exact to {entry['max_abs_error']:.1g}")


if __name__ == "__main__":
    main()
