"""What runs inside a fork: a verb of a generated project, and a look at what it did."""

import contextlib
import gc
import hashlib
import importlib
import importlib.util
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Prediction = dict[str, Any]
Pixels = NDArray[np.uint8]  # [B, C, H, W]
Leaves = frozenset[tuple[str, str]]  # the values of a state, each with the name it has there

OTHER_SCALE = 1024.0  # of a gradient scaler; a new one begins with 65536
PACKAGE = "my_project"
MOVED = ("dirpath", "best_model_path", "last_model_path")  # tell where a run lies, not what it is
RUN = "runs/default"
NUM_IMAGES = 5
FORMATS = "torch-export,onnx,torchscript"
TOLERANCE = 1e-5  # of probabilities
WRAPPED = ("net.", "module.", "_orig_mod.")  # which a framework puts before the names of weights


@dataclass(frozen=True)
class Observed:
    """What could be seen of one process that trained."""

    dtypes: frozenset[str]  # that convolutions computed in
    began_with: Leaves  # the state of all that changes, before the first training step
    saved: Leaves  # the newest checkpoint


def train(arguments: list[str], scale: float | None = None) -> Observed:
    """Run `python -m <package>.train` with arguments; a scaler that is made anew has another scale."""
    dtypes: set[str] = set()
    began: list[Leaves] = []

    def before(module: nn.Module, _inputs: object) -> None:
        if module.training and not began and next(module.parameters(), None) is not None:
            began.append(live_state(module))

    def after(module: nn.Module, _inputs: object, output: object) -> None:
        if module.training and isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
            dtypes.add(str(output.dtype).removeprefix("torch."))

    nn.modules.module.register_module_forward_pre_hook(before)
    nn.modules.module.register_module_forward_hook(after)
    if scale:
        new_scale = torch.amp.GradScaler.__init__
        device, _, *others = new_scale.__defaults__ or ()
        new_scale.__defaults__ = (device, scale, *others)
    run_verb("train", arguments)
    out_dir = arguments[arguments.index("--out_dir") + 1] if "--out_dir" in arguments else "runs/default"
    newest = max((Path(out_dir) / "checkpoints").glob("step-*.pt"))
    saved = leaves(torch.load(newest, map_location="cpu", weights_only=True))
    return Observed(frozenset(dtypes), began[0] if began else frozenset(), saved)


def run_verb(verb: str, arguments: list[str]) -> None:
    sys.argv = [verb, *arguments]
    importlib.import_module(f"{PACKAGE}.{verb}").main()


def live_state(model: nn.Module) -> Leaves:
    """The weights, and the states of the optimizer, its schedule and the gradient scaler in this process."""
    found: set[tuple[str, str]] = set(leaves(model.state_dict()))
    for thing in gc.get_objects():  # without those of before the fork
        if isinstance(thing, Optimizer | LRScheduler | torch.amp.GradScaler):
            found |= leaves(thing.state_dict())
    return frozenset(found)


def leaves(tree: object, name: str = "") -> Leaves:
    """All values in nested containers, without their order; numbers of parameters are no values."""
    if isinstance(tree, Mapping):
        inner = [leaves(value, key if isinstance(key, str) else name) for key, value in tree.items()]
        return frozenset().union(*inner)
    if name in ("params", *MOVED):
        return frozenset()
    if isinstance(tree, list | tuple):
        return frozenset().union(*(leaves(value, name) for value in tree))
    while name.startswith(WRAPPED):
        name = name.partition(".")[2]
    return frozenset({(name, digest(tree))})


def digest(value: object) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    whole = value.full_tensor() if hasattr(value, "full_tensor") else value
    content = whole.detach().cpu().contiguous()
    data = content.reshape(-1).view(torch.uint8).numpy().tobytes()
    short = repr(content.item()) if content.numel() == 1 else str(tuple(content.shape))
    return f"{content.dtype} {short} {hashlib.sha256(data).hexdigest()[:12]}"


def metrics(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What `metrics.csv` holds: steps and values by name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (run / "metrics.csv").read_text().splitlines()[1:]:
        step, _, name, value = line.split(",")
        found.setdefault(name, []).append((int(step), float(value)))
    return found


def facts(run: Path) -> dict[str, Any]:
    """What a run led to, for comparing it with another."""
    best = json.loads((run / "best.json").read_text())
    weights = torch.load(run / "best.pt", map_location="cpu", weights_only=True)
    return {
        "metrics.csv": (run / "metrics.csv").read_text(),
        "best.json": best,
        "best.pt": sorted(leaves(weights)),
    }


def num_gpus() -> int:
    return torch.cuda.device_count() if os.environ.get("CUDA_VISIBLE_DEVICES", "all") else 0


def wrong_in_loggers(run: Path, loggers: list[str]) -> str:
    """Read a run through each logger's own reader; say what it lacks of the metrics and settings."""
    if not importlib.util.find_spec("tests.readers"):
        return ""  # readers come with the loggers that need them
    READERS = importlib.import_module("tests.readers").READERS  # noqa: N806
    wanted, config = metrics(run), settings(run)
    wrong = []
    for logger in loggers:
        reader = READERS[logger](run)
        curves = reader.curves()
        if {name: [step for step, _ in curve] for name, curve in curves.items()} != {
            name: [step for step, _ in curve] for name, curve in wanted.items()
        }:
            wrong.append(f"{logger} shows the curves {curves}, and metrics.csv has {wanted}")
            continue
        for name, curve in curves.items():
            for (step, value), (_, written) in zip(curve, wanted[name], strict=True):
                if abs(value - written) > 1e-5 * abs(written) + 1e-12:
                    wrong.append(f"{logger}: {name} is {value} at step {step}, and {written} in metrics.csv")
        shown = {name: str(value) for name, value in reader.hyperparameters().items()}
        lost = {name: value for name, value in config.items() if shown.get(name, value) != value}
        lost |= {name: value for name, value in config.items() if name not in shown and value != "None"}
        if lost:
            wrong.append(f"{logger} lacks the settings {lost}; it shows {shown}")
    return "\n".join(wrong)


def settings(run: Path) -> dict[str, str]:
    """The settings of a run by dotted name, as text."""

    def flat(tree: dict[str, object], prefix: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in tree.items():
            found |= (
                flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: str(value)}
            )
        return found

    return flat(yaml.safe_load((run / "config.yaml").read_text()), "")


def said_by(verb: str, *arguments: str) -> str:
    """What a verb prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run_verb(verb, [*arguments])
    print(printed.getvalue())
    return printed.getvalue()


def some_images() -> Pixels:
    """Images of the shape that the model of a run takes; not two are alike."""
    shape = json.loads((Path(RUN) / "best.json").read_text())["shape"]
    return np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, *shape), dtype=np.uint8)


def predict() -> list[Prediction]:
    """Run `evaluate`, and `predict` for some images; return the predictions."""
    scores = dict(line.split() for line in said_by("evaluate", "--run", RUN).splitlines())
    assert 0 < float(scores["test/accuracy"]) <= 1, scores
    np.save("images.npy", some_images())
    lines = said_by("predict", "--run", RUN, "images.npy").splitlines()
    assert len(lines) == NUM_IMAGES, lines
    return [json.loads(line) for line in lines]


def eager(images: Pixels) -> NDArray[np.float32]:
    """What the best weights themselves answer, [B, num_classes]."""
    sys.argv = ["predict", "--run", RUN]
    cfg, _ = importlib.import_module(f"{PACKAGE}.config").parse("predict", of_run=True)
    net = importlib.import_module(f"{PACKAGE}.predict").Predictor(Path(RUN), cfg).net
    with torch.inference_mode():
        answer: NDArray[np.float32] = torch.softmax(net(torch.from_numpy(images) / 255), dim=1).numpy()
    return answer


def wrong_in_export() -> str:
    """Run `export`; say which program does not answer as the model that was trained, with which batch."""
    run_verb("export", ["--run", RUN, "--format", FORMATS])
    about = json.loads((Path(RUN) / "export/model.json").read_text())
    assert set(about["files"]) == set(FORMATS.split(",")), about["files"]
    images = some_images()
    expected = eager(images)
    wrong = []
    for name, entry in about["files"].items():
        model = load_program(Path(RUN) / "export" / entry["file"])
        for size in (1, 2, NUM_IMAGES):
            error = float(np.abs(model(images[:size]) - expected[:size]).max())
            if not error <= TOLERANCE:
                wrong.append(f"{name}: probabilities differ by {error} in a batch of {size}")
    return "\n".join(wrong)


def load_program(path: Path) -> Callable[[Pixels], NDArray[np.float32]]:
    """A function that runs an exported program with nothing but its own runtime."""
    if path.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        [images] = session.get_inputs()
        return lambda pixels: session.run(None, {images.name: pixels})[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is one as a whole
        program = torch.export.load(path).module() if path.suffix == ".pt2" else torch.jit.load(path)  # type: ignore[no-untyped-call]
    return lambda pixels: program(torch.from_numpy(pixels)).detach().numpy()
