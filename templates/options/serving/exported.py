"""Exported models: how they are written, checked, loaded and run."""

import json
import logging
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from torch import nn, onnx

from ..config import Config, read_settings
from ..errors import LOG, UserError, checked
from ..runs.files import save_json, sha256
from ..task import inputs
from ..task.data import open_data
from ..task.inputs import Arrays
from ..trained import Run, Trained, runner
from . import FILES

FORMAT = 1  # of model.json
BATCHES = (1, 2, 7, *[35] * 14)  # sizes of those that a file is checked with, of the test split and of the task


class Model(NamedTuple):
    """A model, and what its answers mean."""

    run: Run
    about: dict[str, Any]  # what the task's data said of themselves
    version: str  # of the weights, whatever format they are in


def load_model(run: Path, backend: str, num_threads: int = 1) -> Model:
    """The model of a run, in a format or `plain`; raises `UserError` when it is missing or not what it should be."""
    # ONNX Runtime has threads of its own, which torch's would get in the way of.
    torch.set_num_threads(1 if backend == "onnx" else num_threads)
    if backend != "plain":
        return load_exported(run, backend, num_threads)
    trained = Trained(run, read_settings(run))
    return Model(trained.answer, trained.about, sha256(run / "best.pt")[:12])


def load_exported(run: Path, name: str, num_threads: int = 1) -> Model:
    """A model that was exported; raises `UserError` if it is missing, damaged or gives other numbers.

    The run is not asked which file that is: one that holds data is never opened as one that can hold code.
    """
    with checked(f"run={run}: its {name} model", "Export it first."):
        path, told = run / "export" / FILES[name], json.loads((run / "export/model.json").read_text())
        if told.get("format") != FORMAT:
            raise UserError(f"{path}: another version of this project wrote it. Export it again.")
        if sha256(path) != told["files"][name]["sha256"]:
            raise UserError(f"{path}: it is not the file that model.json tells of. Export it again.")
        if name != "onnx":
            LOG.warning("%s is a program, which can do all that you can. Load none of a stranger's.", path)
        model = Model(load_file(path, num_threads), told["about"], str(told["version"]))
        answers = model.run(inputs.example(model.about, 2))
        sample = {key: np.array(value) for key, value in told["sample"].items()}
        if not (inputs.differ(sample, answers) <= inputs.TOLERANCE).all():
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
    return lambda arrays: dict(zip(inputs.OUTPUTS, session.run(inputs.OUTPUTS, arrays), strict=True))


def describe(arrays: Arrays, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Name, shape and dtype of each; in place of a length that varies its shape has a word."""
    shapes = {name: [inputs.DYNAMIC[name].get(axis, n) for axis, n in enumerate(arrays[name].shape)] for name in names}
    return [{"name": name, "shape": shapes[name], "dtype": str(arrays[name].dtype)} for name in names]


def export(run: Path, cfg: Config, formats: list[str]) -> dict[str, Any]:
    """Write the formats and `model.json`; return its content. Raises `UserError` if one is not exact."""
    trained, new = Trained(run, cfg), run / "export.new"
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
    told = {"format": FORMAT, "version": sha256(run / "best.pt")[:12], "about": trained.about, "files": files}
    told |= {"inputs": describe(sample, inputs.INPUTS), "outputs": describe(answers, inputs.OUTPUTS)}
    told["sample"] = {name: answers[name].tolist() for name in inputs.OUTPUTS}  # of `example(about, 2)`
    told["made_with"] = {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")}
    save_json(new / "model.json", told)
    shutil.rmtree(run / "export", ignore_errors=True)
    new.rename(run / "export")
    return told


def build_checks(about: dict[str, Any], cfg: Config) -> Iterator[Arrays]:
    """Samples from all over the test split, and of the task's example, in batches of several sizes."""
    source, made, first = open_data(cfg.data).test, inputs.example(about, sum(BATCHES)), 0
    for size in BATCHES:
        expected = {name: array[first : first + size] for name, array in made.items()}
        chosen = [i * len(source) // sum(BATCHES) for i in range(first, first + size)]
        found = inputs.from_batch(source.batch(chosen, None))
        told = [describe(arrays, inputs.INPUTS) for arrays in (expected, found)]
        if told[0] != told[1]:
            raise UserError(f"data: the model takes {told[0]}, and these samples are {told[1]}.")
        yield from (found, expected)
        first += size


def largest_error(path: Path, checks: list[tuple[Arrays, Arrays]], about: dict[str, Any]) -> float:
    """By how much a file's answers differ from the plain model's; raises `UserError` for too much."""
    run, worst = load_file(path), 0.0
    for arrays, expected in checks:
        got = run(arrays)
        errors = inputs.differ(expected, got)
        i = int(errors.argmax())  # or the first that is not a number
        if not errors[i] <= inputs.TOLERANCE:
            old, new = (inputs.predictions(answers, about)[i] for answers in (expected, got))
            where = f"In a batch of {len(errors)}, {old} became {new}, and numbers differ by {errors[i]:.2g}"
            raise UserError(f"{path.name}: it does not answer as the plain model. {where}.")
        worst = max(worst, float(errors[i]))
    return worst


def write(module: nn.Module, sample: Arrays, path: Path) -> None:
    """Write a file in the format that its name tells, for batches of any size."""
    arguments = tuple(torch.from_numpy(sample[name]) for name in inputs.INPUTS)
    if path.name == FILES["torchscript"]:
        LOG.warning("TorchScript is PyTorch's legacy format; prefer torch-export or onnx.")
        return torch.jit.save(torch.jit.trace(module, arguments), path)
    varying = tuple(inputs.DYNAMIC[name] for name in inputs.INPUTS)
    dims = {word: torch.export.Dim(word, min=1) for axes in varying for word in axes.values()}
    shapes = tuple({axis: dims[word] for axis, word in axes.items()} for axes in varying)
    graph = torch.export.export(module, arguments, dynamic_shapes=shapes)
    if path.name == FILES["torch-export"]:
        return torch.export.save(graph, path)
    names: Any = {"input_names": inputs.INPUTS, "output_names": inputs.OUTPUTS, "dynamic_shapes": varying}
    onnx.export(graph, f=path, **names, external_data=False, verbose=False)
    return None
