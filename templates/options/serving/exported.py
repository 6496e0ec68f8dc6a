"""Exported models: how they are written, checked, loaded and run."""

import json
import logging
import math
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from torch import nn, onnx

#: if pretrained == "transformers"
from .. import pretrained
#: endif
from ..config import Config, read_settings
from ..errors import LOG, UserError, checked
from ..runs.files import save_json, sha256
from ..task import inputs
from ..task.inputs import Arrays
from ..trained import Run, Trained, read_assets, runner
from . import FILES, hub

FORMAT = 1  # of model.json
BATCHES = (1, 2, 7, *[35] * 14)  # sizes of the batches that a file is checked with, of the test split and made up
MOST_NUMBERS = 2**24  # in these samples, beyond the first three batches: large ones take long, and much memory


class Model(NamedTuple):
    """A model, and what its answers mean."""

    run: Run
    about: dict[str, Any]  # the `about` of the data that it was trained on
    version: str  # of the weights, the same in all formats
    assets: dict[str, bytes] = {}  # noqa: RUF012, as nothing changes it


def load_model(run: Path, backend: str, num_threads: int = 1) -> Model:
    """The model of a run, in a format or `plain`; raises `UserError` if it is missing or damaged."""
    # ONNX Runtime has threads of its own, with which torch's would compete.
    torch.set_num_threads(1 if backend == "onnx" else num_threads)
    if backend != "plain":
        return load_exported(run, backend, num_threads)
    trained = Trained(run, read_settings(run))
    return Model(trained.answer, trained.about, sha256(run / "best.pt")[:12], trained.assets)


def load_exported(run: Path, name: str, num_threads: int = 1) -> Model:
    """A model that was exported; raises `UserError` if it is missing, damaged or gives other numbers.

    The format alone decides which file is opened, and how: nothing in a run can have data opened as code.
    """
    with checked(f"run={run}: its {name} model", "Export it first."):
        path, saved = run / "export" / FILES[name], json.loads((run / "export/model.json").read_text())
        if saved.get("format") != FORMAT:
            raise UserError(f"{path}: another version of this project wrote it. Export it again.")
        if sha256(path) != saved["files"][name]["sha256"]:
            raise UserError(f"{path}: it is not the file that model.json describes. Export it again.")
        if name != "onnx":
            LOG.warning("%s is a program, and runs with your rights. Load none from strangers.", path)
        assets = read_assets(run, saved["assets"])
        model = Model(load_file(path, num_threads), saved["about"], str(saved["version"]), assets)
        answers = model.run(inputs.example(model.about, 2))
        sample = {key: np.array(value) for key, value in saved["sample"].items()}
        if not (inputs.differ(sample, answers) <= inputs.TOLERANCE).all():
            raise UserError(f"{path}: it gives other numbers here than when it was exported.")
        return model


def load_file(path: Path, num_threads: int = 1) -> Run:
    """A function that runs the model in a file; the threads are those of ONNX Runtime."""
    if path.name == FILES["torch-export"]:
        logging.getLogger("torch.export").setLevel(logging.ERROR)  # it shows a traceback for a file that is no model
        return runner(torch.export.load(path).module())
    if path.name == FILES["torchscript"]:
        return runner(torch.jit.load(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads give way
    session = onnxruntime.InferenceSession(path, options, onnxruntime.get_available_providers())
    return lambda arrays: dict(zip(inputs.OUTPUTS, session.run(inputs.OUTPUTS, arrays), strict=True))


def measure(sample: Arrays) -> int:
    """The length of a sample: the product of its axes that vary, as `inputs.DYNAMIC` says; 1 where none does."""
    axes = [(name, axis, word) for name in inputs.INPUTS for axis, word in inputs.DYNAMIC[name].items() if axis]
    return math.prod({word: sample[name].shape[axis - 1] for name, axis, word in axes}.values())


def describe(arrays: Arrays, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Name, shape and dtype of each array; an axis whose length varies has a name instead of a length."""
    shapes = {name: [inputs.DYNAMIC[name].get(axis, n) for axis, n in enumerate(arrays[name].shape)] for name in names}
    return [{"name": name, "shape": shapes[name], "dtype": str(arrays[name].dtype)} for name in names]


def export(run: Path, cfg: Config, formats: list[str]) -> dict[str, Any]:
    """Write the formats, `model.json`, whose content is returned, and `hub/`; raises `UserError` if one is not exact.

    Formats that were exported before are written again, so that all files are of the same weights.
    """
    trained, new, old = Trained(run, cfg), run / "export.new", run / "export"
    formats = [*formats, *(name for name in FILES if name not in formats and (old / FILES[name]).exists())]
    sample = inputs.example(trained.about, 2)
    answers = trained.answer(sample)
    checks = [(arrays, trained.answer(arrays)) for arrays in build_checks(trained.about, cfg)]
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    files = {}
    for name in formats:
        path = new / FILES[name]
        write(trained.exported, sample, path)
        error = largest_error(path, checks, trained.about)
        files[name] = {"file": path.name, "sha256": sha256(path), "max_abs_error": error}
    content = {"format": FORMAT, "version": sha256(run / "best.pt")[:12], "about": trained.about, "files": files}
    content |= {"inputs": describe(sample, inputs.INPUTS), "outputs": describe(answers, inputs.OUTPUTS)}
    content["assets"] = {name: sha256(run / "assets" / name) for name in trained.assets}
    content["sample"] = {name: answers[name].tolist() for name in inputs.OUTPUTS}  # of `example(about, 2)`
    content["made_with"] = {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")}
    save_json(new / "model.json", content)
    hub.write(new / "hub", run, cfg, trained)
    #: if pretrained == "transformers"
    pretrained.save(trained.net, trained.assets, new / "transformers")
    #: endif
    shutil.rmtree(old, ignore_errors=True)
    new.rename(old)
    return content


def build_checks(about: dict[str, Any], cfg: Config) -> Iterator[Arrays]:
    """Samples from all over the test split, and made-up ones, in batches of several sizes."""
    from ..task.data import open_data  # brings what reads data, which a service does not need

    sizes = choose_batches(about)
    source, made, first = open_data(cfg.data).test, inputs.example(about, sum(sizes)), 0
    for size in sizes:
        expected = {name: array[first : first + size] for name, array in made.items()}
        chosen = [i * len(source) // sum(sizes) for i in range(first, first + size)]
        found = inputs.from_batch(source.batch(chosen, None))
        taken, given = (describe(arrays, inputs.INPUTS) for arrays in (expected, found))
        if taken != given:
            raise UserError(f"data: the model takes {taken}, and these samples are {given}.")
        yield from (found, expected)
        first += size


def choose_batches(about: dict[str, Any]) -> list[int]:
    """The sizes of the batches to check a file with: all of `BATCHES`, or fewer where samples are large."""
    numbers = sum(array.size for array in inputs.example(about, 1).values())
    totals = zip(BATCHES, accumulate(BATCHES), strict=True)
    return [size for number, (size, total) in enumerate(totals) if number < 3 or total * numbers <= MOST_NUMBERS]


def largest_error(path: Path, checks: list[tuple[Arrays, Arrays]], about: dict[str, Any]) -> float:
    """The largest difference from the plain model's answers; raises `UserError` if it is more than `TOLERANCE`."""
    run, worst = load_file(path), 0.0
    for arrays, expected in checks:
        got = run(arrays)
        errors = inputs.differ(expected, got)
        i = int(errors.argmax())  # the first NaN, if there is one
        if not errors[i] <= inputs.TOLERANCE:
            old, new = (str(inputs.predictions(answers, about)[i])[:200] for answers in (expected, got))
            where = f"In a batch of {len(errors)}, {old} became {new}, and numbers differ by {errors[i]:.2g}"
            raise UserError(f"{path.name}: its answers differ from the plain model's. {where}.")
        worst = max(worst, float(errors[i]))
    return worst


def write(module: nn.Module, sample: Arrays, path: Path) -> None:
    """Write a file in the format of its name, for batches of any size."""
    arguments = tuple(torch.from_numpy(sample[name]) for name in inputs.INPUTS)
    if path.name == FILES["torchscript"]:
        LOG.warning("TorchScript is PyTorch's legacy format; prefer torch-export or onnx.")
        return torch.jit.save(torch.jit.trace(module, arguments), path)
    varying = tuple(inputs.DYNAMIC[name] for name in inputs.INPUTS)
    words = {word for axes in varying for word in axes.values()}
    #: if pretrained == "none"
    dims = {word: torch.export.Dim(word, min=1) for word in words}
    #: endif
    #: if pretrained == "transformers"
    most: Any = module.most  # of axes that the network bounds
    dims = {word: torch.export.Dim(word, min=1, max=most.get(word)) for word in words}
    #: endif
    shapes = tuple({axis: dims[word] for axis, word in axes.items()} for axes in varying)
    graph = torch.export.export(module, arguments, dynamic_shapes=shapes)
    if path.name == FILES["torch-export"]:
        return torch.export.save(graph, path)
    names: Any = {"input_names": inputs.INPUTS, "output_names": inputs.OUTPUTS, "dynamic_shapes": varying}
    onnx.export(graph, f=path, **names, external_data=False, verbose=False)
    return None
