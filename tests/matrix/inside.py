"""What runs inside a fork: a verb of a generated project, and a look at what it did."""

import asyncio
import contextlib
import gc
import hashlib
import importlib
import inspect
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import optuna
import torch
import yaml
from matplotlib.figure import Figure
from numpy.typing import NDArray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.support.forkserver import FIRST
from tests.support.readers import READERS
from tests.support.whole import whole

Prediction = dict[str, Any]
Pixels = NDArray[np.uint8]  # [B, C, H, W]
Leaves = frozenset[tuple[str, str]]  # the values of a state, each with the name it has there

OTHER_SCALE = 1024.0  # of a gradient scaler; a new one begins with 65536
PACKAGE = "my_project"
PICTURES = "MATRIX_PICTURES"  # an environment variable
MOVED = ("dirpath", "best_model_path", "last_model_path")  # tell where a run lies, not what it is
RUN = "runs/default"
SEARCH = "runs/search"
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
    facts: dict[str, Any]  # what the run led to


def train(
    arguments: list[str], scale: float | None, slow_disk_s: float, pictures: Path, forge: bool
) -> Observed:
    """Run `python -m <package>.train` with arguments.

    Args:
        scale: what a gradient scaler begins with, if not with its own default.
        slow_disk_s: how long the first of several processes takes for each file, so that one that does not
            wait for it is found out.
        pictures: where they are kept, so that none is drawn twice.
        forge: lay a checkpoint beside the newest one that a resume must not take.
    """
    remember_pictures(pictures)
    if os.environ.get("RANK") == "0":
        slow_down_disk(slow_disk_s)
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
    newest = max((Path(RUN) / "checkpoints").glob("step-*.pt"))
    state = torch.load(newest, map_location="cpu", weights_only=True)
    state.pop("loops", None)  # Lightning's counters of how often something was started, which nothing reads
    saved = leaves(state)
    if forge and os.environ.get("RANK", "0") == "0":
        forge_checkpoint(newest)
    return Observed(frozenset(dtypes), began[0] if began else frozenset(), saved, facts(Path(RUN)))


def remember_pictures(folder: Path) -> None:
    """Draw only what no run had the like of, all but the numbers: drawing takes half of a run.

    The pictures of a run are neither plotted nor rendered again, those of a search are not rendered.
    """
    plots = importlib.import_module(f"{PACKAGE}.plots")
    for name in ("draw_curves", "draw_confusion"):
        setattr(plots, name, drawn_once(getattr(plots, name), folder))
    render = Figure.savefig

    def savefig(figure: Figure, path: Path, **options: Any) -> None:
        shown = [len(axes.get_children()) for axes in figure.axes]
        like = (path.name, options, figure.get_size_inches().tolist(), shown)
        copy_or_make(folder, repr(like), path, lambda: render(figure, path, **options))

    Figure.savefig = savefig  # type: ignore[assignment, method-assign]


def remember() -> None:
    """What the programs do first that a search starts."""
    remember_pictures(Path(os.environ[PICTURES]))


def drawn_once(draw: Callable[..., None], folder: Path) -> Callable[..., None]:
    """Do as `draw` does, whose last argument is a path."""
    code = inspect.getsource(draw)

    def drawn(*given: Any) -> None:
        like = re.sub(r"\d[-+.e\d]*", "0", repr(given[:-1]))
        copy_or_make(folder, code + like, given[-1], lambda: draw(*given))

    return drawn


def copy_or_make(folder: Path, like: str, path: Path, make: Callable[[], object]) -> None:
    known = folder / hashlib.sha256(like.encode()).hexdigest()
    if not known.exists():
        make()
        copy = folder / f"{known.name}.{os.getpid()}"
        shutil.copy(path, copy)
        copy.replace(known)
    shutil.copy(known, path)


def slow_down_disk(seconds: float) -> None:
    sync = os.fsync

    def sync_slowly(file: int) -> None:
        time.sleep(seconds)
        sync(file)

    os.fsync = sync_slowly  # type: ignore[assignment]


def run_verb(verb: str, arguments: list[str]) -> None:
    sys.argv = [verb, *arguments]
    importlib.import_module(f"{PACKAGE}.{verb}").main()


def live_state(model: nn.Module) -> Leaves:
    """The weights, and the states of the optimizer and the gradient scaler in this process."""
    found: set[tuple[str, str]] = set(leaves(model.state_dict()))
    kinds = {Optimizer, torch.amp.GradScaler}
    stateful = {kind: any(base in kinds for base in kind.__mro__) for kind in map(type, gc.get_objects())}
    for thing in gc.get_objects():  # without those of before the fork
        if stateful.get(type(thing)):
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


def shapes(weights: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names, types and shapes of weights, without their numbers."""
    return [(name, text.rpartition(" ")[0]) for name, text in weights]


def digest(value: object) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    content = whole(value.detach()).cpu().contiguous()
    data = content.reshape(-1).view(torch.uint8).numpy().tobytes()
    short = repr(content.item()) if content.numel() == 1 else str(tuple(content.shape))
    return f"{content.dtype} {short} {hashlib.sha256(data).hexdigest()[:12]}"


def forge_checkpoint(newest: Path) -> None:
    """Lay a later checkpoint beside this one, with other weights and all but the seal in order."""
    state = torch.load(newest, weights_only=True)
    for tree in state.values():
        for value in tree.values() if isinstance(tree, Mapping) else ():
            if isinstance(value, Tensor) and value.is_floating_point():
                value.add_(1)
    forged = newest.with_name("step-00000009.pt")
    torch.save(state, forged)
    manifest = json.loads(newest.with_suffix(".json").read_text())
    manifest |= {"step": 9, "sha256": hashlib.sha256(forged.read_bytes()).hexdigest()}
    forged.with_suffix(".json").write_text(json.dumps(manifest))


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


def wrong_in_loggers(run: Path, loggers: list[str], first_settings: str) -> str:
    """Read a run through each logger's own reader; say what it lacks of the metrics and settings."""
    wanted = metrics(run)
    starts = [settings(first_settings), settings((run / "config.yaml").read_text())]
    wrong = []
    for logger in loggers:
        reader = READERS[logger](run)
        curves = reader.curves()
        for name, curve in wanted.items():
            if not same_curve(curves.get(name, []), curve):
                wrong.append(f"{logger} shows {name} as {curves.get(name)}, and metrics.csv as {curve}")
        if unended := reader.unended():
            wrong.append(f"{logger} shows {unended}")
        shown = reader.hyperparameters()
        for name in starts[0]:
            values = [start[name] for start in starts]
            if not any(same(shown.get(name), value) for value in values):
                wrong.append(f"{logger} shows {name} as {shown.get(name)}, and it was {values}")
    return "\n".join(wrong)


def same_curve(shown: list[tuple[int, float]], written: list[tuple[int, float]]) -> bool:
    """Whether two curves are equal, to the digits that are written."""
    return [step for step, _ in shown] == [step for step, _ in written] and np.allclose(
        [value for _, value in shown], [value for _, value in written], rtol=1e-5, atol=1e-12
    )


def same(shown: object, value: object) -> bool:
    """Whether a logger shows a setting, as a number or as text; some have no value for none."""
    if isinstance(value, int | float) and isinstance(shown, int | float):
        return shown == value  # TensorBoard has no other numbers than 64-bit floats, for truth values too
    return str(shown) == str(value)


def settings(text: str) -> dict[str, object]:
    """The settings in a `config.yaml`, by dotted name."""

    def flat(tree: dict[str, object], prefix: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in tree.items():
            found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return found

    return flat(yaml.safe_load(text), "")


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


def make_mlflow_store(path: Path) -> None:
    """An empty store with all its tables, which take over a second to make."""
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()


def wrong_in_search(processes: int, pictures: Path) -> str:
    """Run `tune` for two trials, of which the second learns nothing; say what the study lacks."""
    remember_pictures(pictures)
    folder = Path(SEARCH)
    out_dir, study = folder.with_name("trial"), folder.name
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    made = optuna.create_study(storage=storage, study_name=study, direction="maximize")
    for rate in (1e-2, 1e-4):
        made.enqueue_trial({"optim.lr": rate})
    os.environ |= {"PYTHONPATH": sys.path[0], FIRST: "tests.matrix.inside:remember", PICTURES: str(pictures)}
    options = {"study": study, "trials": 2, "processes": processes, "pruner": "hyperband", "epochs": 2}
    options |= {
        "log_every": 1,
        "num_threads": 1,
        "model.width": 4,
        "data.batch_size": 250 // processes,
        "out_dir": out_dir,
    }
    run_verb("tune", [part for name, value in options.items() for part in (f"--{name}", str(value))])
    states = [trial.state.name for trial in made.trials]
    if states != ["COMPLETE", "PRUNED"]:
        log = (folder / "worker-0.log").read_text()
        return f"the trials ended as {states}\n{[trial.intermediate_values for trial in made.trials]}\n{log}"
    best = yaml.safe_load((folder / "best.yaml").read_text())
    score = json.loads((folder / "trial-0000/best.json").read_text())["score"]
    found = (best["optim"]["lr"], made.best_value)
    return "" if found == (1e-2, score) else f"best.yaml and the study say {found}, not {(1e-2, score)}"


def wrong_in_service(predictions: list[Prediction]) -> str:
    """Send the same images to the service of this project; say where it answers otherwise than `predict`."""
    module = importlib.import_module(f"{PACKAGE}.serving.service")
    ask = ask_app if hasattr(module, "build_app") else ask_server
    answers = ask([[image] for image in some_images().tolist()] + [some_images().tolist()])
    wrong = []
    for number, expected in enumerate(predictions):
        for got in (answers[number][0], answers[-1][number]):
            same = all(got[name] == expected[name] for name in ("label", "index"))
            if not same or abs(got["probability"] - expected["probability"]) > TOLERANCE:
                wrong.append(f"image {number}: the service says {got}, and predict {expected}")
    return "\n".join(wrong)


def ask_app(requests: list[list[Any]]) -> list[list[Prediction]]:
    """Ask an app in this process."""
    service = importlib.import_module(f"{PACKAGE}.serving.service")
    settings = importlib.import_module(f"{PACKAGE}.serving.settings")
    transport = httpx.ASGITransport(service.build_app(Path(RUN), settings.Settings()))

    async def ask() -> list[list[Prediction]]:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [answers_of(await client.post("/predict", json={"inputs": each})) for each in requests]

    return asyncio.run(ask())


def ask_server(requests: list[list[Any]]) -> list[list[Prediction]]:
    """Start `python -m <package>.serve`, ask it over HTTP, and let it end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", f"{PACKAGE}.serve", "--run", RUN, "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": sys.path[0]})
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        while not ready(client):
            if process.poll() is not None:
                raise RuntimeError(f"the service ended with {process.returncode}")
            time.sleep(0.1)
        answers = [answers_of(client.post("/predict", json={"inputs": each})) for each in requests]
    process.terminate()
    if code := process.wait():
        raise RuntimeError(f"the service ended with {code} when it was told to")
    return answers


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def answers_of(response: httpx.Response) -> list[Prediction]:
    assert response.status_code == 200, response.text
    predictions: list[Prediction] = response.json()["predictions"]
    return predictions
