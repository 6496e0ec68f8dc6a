"""What runs inside a fork: a command of a generated project, and a look at what it did."""

import asyncio
import base64
import contextlib
import gc
import hashlib
import importlib
import io
import json
import os
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
from numpy.typing import NDArray
from optuna.study import StudyDirection
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from tests.support.readers import READERS
from tests.support.whole import whole

Prediction = dict[str, Any]
Arrays = dict[str, NDArray[Any]]  # of a batch, by the names in `task/inputs.py`
Leaves = frozenset[tuple[str, str]]  # the values of a state, each with the name it has there

OTHER_SCALE = 1024.0  # of a gradient scaler; a new one begins with 65536
PACKAGE = "my_project"
STATEFUL = {"training.optim": "Update", "runs.progress": "Progress", "runs.best": "Best"}
RUN = "runs/0001"
SEARCH = "runs/search"
NUM_SAMPLES = 5
ROUNDING, SURE = 2e-6, 1e-7  # of a weight after a step; gradients above it, all clipped to 1, are no rounding
COMPUTES = (nn.Conv2d, nn.Linear)  # in the precision of a step
FORMATS = "torch-export,onnx,torchscript"
IGNORED = ("params", "goal")  # numbers of parameters, and what the settings of each start say
WRAPPED = ("net.", "module.", "_orig_mod.")  # which a framework puts before the names of weights


@dataclass(frozen=True)
class Observed:
    """What could be seen of one process that trained."""

    dtypes: frozenset[str]  # that convolutions and linear layers computed in
    began_with: Leaves  # the state of all that changes, before the first training step
    saved: Leaves  # the newest checkpoint
    facts: dict[str, Any]  # what the run led to


def train(arguments: list[str], scale: float | None, slow_disk_s: float, forge: bool, keep: bool) -> Observed:
    """Run `python -m <package>.train` with arguments.

    Args:
        scale: what a gradient scaler begins with, if not with its own default.
        slow_disk_s: how long the first of several processes takes for each file, so that one that does not
            wait for it is found out.
        forge: lay a checkpoint beside the newest one that a resume must not take.
        keep: all checkpoints.
    """
    if keep:
        imported("runs.files").KEEP = sys.maxsize
    if os.environ.get("RANK") == "0":
        slow_down_disk(slow_disk_s)
    dtypes: set[str] = set()
    began: list[Leaves] = []

    def before(module: nn.Module, _inputs: object) -> None:
        if module.training and not began and next(module.parameters(), None) is not None:
            began.append(live_state(module))

    def after(module: nn.Module, _inputs: object, output: object) -> None:
        if module.training and isinstance(module, COMPUTES) and isinstance(output, Tensor):
            dtypes.add(str(output.dtype).removeprefix("torch."))

    nn.modules.module.register_module_forward_pre_hook(before)
    nn.modules.module.register_module_forward_hook(after)
    if scale:
        new_scale = torch.amp.GradScaler.__init__
        device, _, *others = new_scale.__defaults__ or ()
        new_scale.__defaults__ = (device, scale, *others)
    run_command("train", arguments)
    newest = max((Path(RUN) / "checkpoints").glob("step-*.pt"))
    saved = leaves(torch.load(newest, map_location="cpu", weights_only=True))
    if forge and os.environ.get("RANK", "0") == "0":
        forge_checkpoint(newest)
    return Observed(frozenset(dtypes), began[0] if began else frozenset(), saved, facts(Path(RUN)))


def slow_down_disk(seconds: float) -> None:
    sync = os.fsync

    def sync_slowly(file: int) -> None:
        time.sleep(seconds)
        sync(file)

    os.fsync = sync_slowly  # type: ignore[assignment]


def run_command(command: str, arguments: list[str]) -> None:
    sys.argv = [command, *arguments]
    imported(command).main()


def imported(name: str) -> Any:
    """A module of the project."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def live_state(model: nn.Module) -> Leaves:
    """The weights, and the states of all else in this process that a checkpoint holds."""
    found: set[tuple[str, str]] = set(leaves(model.state_dict()))
    kinds = {torch.amp.GradScaler, *(getattr(imported(name), kind) for name, kind in STATEFUL.items())}
    things = gc.get_objects()  # without those of before the fork
    stateful = {kind: not kinds.isdisjoint(kind.__mro__) for kind in map(type, things)}
    for thing in things:
        if stateful[type(thing)]:
            found |= leaves(thing.state_dict())
    return frozenset(found)


def leaves(tree: object, name: str = "") -> Leaves:
    """All values in nested containers, without their order."""
    if isinstance(tree, Mapping):
        inner = [leaves(value, key if isinstance(key, str) else name) for key, value in tree.items()]
        return frozenset().union(*inner)
    if name in IGNORED:
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
    """Lay a later checkpoint beside this one, with other weights than those that its manifest is for."""
    state = torch.load(newest, weights_only=True)
    for value in state["module"].values():
        value.add_(1)
    forged = newest.with_name("step-00000009.pt")
    torch.save(state, forged)
    manifest = json.loads(newest.with_suffix(".json").read_text())
    forged.with_suffix(".json").write_text(json.dumps(manifest | {"step": 9}))


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
    weights, sums = (
        torch.load(run / name, map_location="cpu", weights_only=True) for name in ("best.pt", "sums.pt")
    )
    return {
        "metrics.csv": (run / "metrics.csv").read_text(),
        "best.json": best,
        "best.pt": sorted(leaves(weights)),
        "sums.pt": sorted(leaves(sums)),
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


def said_by(command: str, *arguments: str) -> str:
    """What a command prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run_command(command, [*arguments])
    print(printed.getvalue())
    return printed.getvalue()


def wrong_in_numbers(arguments: list[str], num_steps: int) -> str:
    """Take each step of a run that has ended by plain code; say what came of it that is not what the run has.

    The code knows nothing of frameworks, processes and guards: of each step, and of each phase that it has,
    it adds up all losses, divides by the count of all, clips, and steps. It goes from checkpoint to
    checkpoint, for a network with kinks makes of the rounding of one step ten times as much in the next.
    """
    cfg, data, module = plain_start(arguments)
    optim, progress = imported("training.optim"), imported("runs.progress").Progress(len(data.train), cfg)
    phases = weights_of_phases(module)
    optimizers = {phase: optim.build_optimizer(weights, cfg.optim) for phase, weights in phases.items()}
    wrong = []
    for step in range(1, num_steps + 1):
        batches = [data.train.batch(*share) for share in shares_of_step(progress)]
        for phase, weights in phases.items():
            losses = [module.objective.loss(module.net, batch, *filter(None, [phase])) for batch in batches]
            mean = sum(total for total, _ in losses) / sum(int(count) for _, count in losses)
            gradients = torch.autograd.grad(mean, weights, allow_unused=True)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            clip_grad_norm_(weights, cfg.optim.grad_clip)
            optim.set_rate(optimizers[phase], progress)
            optimizers[phase].step()
        saved = torch.load(Path(RUN) / f"checkpoints/step-{step:08d}.pt", weights_only=True)
        wrong += wrong_weights(module, saved["module"], step)
        module.load_state_dict(saved["module"])
        updates = {"": saved["update"]} if "optimizer" in saved["update"] else saved["update"]
        for phase, optimizer in optimizers.items():
            optimizer.load_state_dict(updates[phase]["optimizer"])
        while not progress.advance():
            pass
    return "\n".join([*wrong, wrong_best(Path(RUN), module.objective)]).strip()


def weights_of_phases(module: Any) -> dict[str, list[nn.Parameter]]:
    """What each phase of a step trains; of a task without phases, all that is trained."""
    phases = getattr(module.objective, "phases", ())
    trained = imported("training.optim").trained_weights(module)
    return {phase: module.objective.groups(module.net, phase) for phase in phases} or {"": trained}


def wrong_weights(module: nn.Module, saved: Mapping[str, Tensor], step: int) -> list[str]:
    """The weights that one step of a run put elsewhere than plain code does, by more than rounding.

    AdamW moves a weight with hardly a gradient, such as the bias of keys in attention, by the sign of its
    rounding.
    """
    wrong = []
    for name, ours in module.state_dict(keep_vars=True).items():
        far = (saved[name] - ours.detach()).abs()
        if ours.grad is not None:
            far *= ours.grad.abs() > SURE
        if not (error := float(far.max())) <= ROUNDING:
            wrong.append(f"{name} is {error} from where plain code puts it in step {step}")
    return wrong


def plain_start(arguments: list[str]) -> tuple[Any, Any, Any]:
    """The settings of a run, its data, and network and objective before the first step."""
    sys.argv = ["train", *arguments]
    cfg, _ = imported("config").parse("train")
    built = imported("training.module")
    data = built.load_data(cfg)
    return cfg, data, built.build_module(cfg, data).train()


def shares_of_step(progress: Any) -> list[Any]:
    """What the batches of the next optimizer step hold: the indices and seeds of their samples."""
    shares = list(imported("training.loading").TrainOrder(progress))
    if isinstance(shares[0], list):  # of several optimizers: an item is a step
        return list(shares[0])
    return shares[: progress.cfg.optim.accumulate]


def wrong_best(run: Path, objective: Any) -> str:
    """Whether the best weights are those of another step than the one with the best score."""
    curve = metrics(run)[f"val/{objective.monitor}"]
    better = {"max": max, "min": min}[objective.directions[objective.monitor]]
    best = json.loads((run / "best.json").read_text())
    if dict(curve)[best["step"]] != better(value for _, value in curve):
        return f"best.json is of step {best['step']}; val/{objective.monitor} was {curve}"
    return ""


def some_samples() -> Arrays:
    """A few samples of the test split, as the model of the run is asked for them."""
    cfg = imported("config").read_settings(Path(RUN))
    source = imported("task.data").open_data(cfg.data).test
    arrays: Arrays = imported("task.inputs").from_batch(source.batch([*range(NUM_SAMPLES)], None))
    return arrays


def read_best() -> dict[str, Any]:
    best: dict[str, Any] = json.loads((Path(RUN) / "best.json").read_text())
    return best


def as_json(arrays: Arrays) -> list[Any]:
    """Each sample as the service of its task takes it: an image, a text, a prompt, or a record."""
    about = read_best()["about"]
    if "noise" in arrays:
        asked = enumerate(arrays["labels"].tolist())
        return [{"class": about["classes"][label], "seed": seed} for seed, label in asked]
    [samples] = arrays.values()
    if "max_bytes" in about:
        return [bytes(row[row > 0]).decode() for row in samples]
    if "tokenizer" in about:
        return [{"prompt": text, "max_tokens": 4} for text in texts_of(samples)]
    if "max_tokens" in about:
        tokenizer = imported("tokens").load(Path(RUN, "assets/tokenizer.json").read_bytes(), len(samples[0]))
        texts = [tokenizer.decode(row[row >= 0].tolist()) for row in samples]
        return [text[: about["max_tokens"] // 4] for text in texts]  # what is cut within a letter grows
    if "columns" not in about:
        return list(samples.tolist())
    names = [column["name"] for column in about["columns"]]
    return [dict(zip(names, row, strict=True)) for row in samples.tolist()]


def texts_of(samples: NDArray[Any]) -> list[str]:
    """Rows of tokens as texts."""
    content = (Path(RUN) / "assets/tokenizer.json").read_bytes()
    pieces = imported("tokens").Vocabulary(content).pieces
    return [
        b"".join(pieces[token] for token in row if token >= 0).decode(errors="replace") for row in samples
    ]


def arguments_of(arrays: Arrays) -> list[str]:
    """Samples as `predict` takes them."""
    samples = as_json(arrays)
    if "noise" in arrays:
        return ["{class}:{seed}".format_map(sample) for sample in samples]
    if not isinstance(samples[0], list):
        return [sample if isinstance(sample, str) else json.dumps(sample) for sample in samples]
    (array,) = arrays.values()
    np.save("samples.npy", array)
    return ["samples.npy"]


def predict() -> list[Prediction]:
    """Run `evaluate`, and `predict` for some samples; return the predictions."""
    scores = dict(line.split() for line in said_by("evaluate", "--run", RUN).splitlines())
    assert scores.keys() == {f"test/{name}" for name in read_best()["scores"]}, scores
    assert np.isfinite([float(score) for score in scores.values()]).all(), scores
    lines = said_by("predict", "--run", RUN, *arguments_of(some_samples())).splitlines()
    assert len(lines) == NUM_SAMPLES, lines
    predictions: list[Prediction] = [json.loads(line) for line in lines]
    for prediction in predictions:
        del prediction["input"]
        for part in getattr(imported("task.inputs"), "FILES", {}):  # as the service answers it
            prediction[part] = base64.b64encode(Path(prediction[part]).read_bytes()).decode()
    return predictions


def eager(arrays: Arrays) -> Arrays:
    """What the best weights themselves answer."""
    cfg = imported("config").read_settings(Path(RUN))
    answers: Arrays = imported("trained").Trained(Path(RUN), cfg).answer(arrays)
    return answers


def wrong_in_export() -> str:
    """Run `export`; say which program does not answer as the model that was trained, with which batch."""
    run_command("export", ["--run", RUN, "--format", FORMATS])
    about = json.loads((Path(RUN) / "export/model.json").read_text())
    assert set(about["files"]) == set(FORMATS.split(",")), about["files"]
    inputs, samples = imported("task.inputs"), some_samples()
    expected = eager(samples)
    wrong = []
    for name, entry in about["files"].items():
        model = load_program(Path(RUN) / "export" / entry["file"])
        for size in (1, 2, NUM_SAMPLES):
            answers = model([samples[name][:size] for name in inputs.INPUTS])
            for output, answer in zip(inputs.OUTPUTS, answers, strict=True):
                error = float(np.abs(answer - expected[output][:size]).max())
                if not error <= inputs.TOLERANCE:
                    wrong.append(f"{name}: {output} differ by {error} in a batch of {size}")
    return "\n".join(wrong)


def load_program(path: Path) -> Callable[[list[NDArray[Any]]], list[NDArray[Any]]]:
    """A function that runs an exported program with nothing but its own runtime."""
    if path.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is one as a whole
        program = torch.export.load(path).module() if path.suffix == ".pt2" else torch.jit.load(path)

    def run(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        answers = program(*map(torch.from_numpy, arrays))
        return [part.detach().numpy() for part in (answers if isinstance(answers, tuple) else (answers,))]

    return run


def make_mlflow_store(path: Path) -> None:
    """An empty store with all its tables, which take over a second to make."""
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()


def direction() -> str:
    """Which way the score that a search follows is better."""
    cfg = imported("config").Config()
    about = imported("task.data").open_data(cfg.data).about
    objective = imported("task.objective").Objective(cfg.objective, about)
    return str(objective.directions[objective.monitor])


def wrong_in_search(samples: int, processes: int, settings: list[str]) -> str:
    """Run `tune` for two trials, of which the second learns nothing; say what the study lacks."""
    folder = Path(SEARCH)
    out_dir, study = folder.with_name("trial"), folder.name
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{folder}/study.db"
    way = StudyDirection.MAXIMIZE if direction() == "max" else StudyDirection.MINIMIZE
    made = optuna.create_study(storage=storage, study_name=study, direction=way)
    for rate in (1e-2, 1e-4):
        made.enqueue_trial({"optim.lr": rate})
    os.environ["PYTHONPATH"] = sys.path[0]
    options = {"study": study, "trials": 2, "pruner": "hyperband", "epochs": 2}
    options |= {
        "log_every": 1,
        "num_threads": 1,
        "data.batch_size": samples // processes,
        "out_dir": out_dir,
    }
    words = [part for name, value in options.items() for part in (f"--{name}", str(value))] + settings
    if processes == 1:
        run_command("tune", words)
    else:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        subprocess.run([sys.executable, *launcher, "-m", f"{PACKAGE}.tune", *words], check=True)
    states = [trial.state.name for trial in made.trials]
    if states != ["COMPLETE", "PRUNED"]:
        log = "".join(path.read_text() for path in folder.glob("trial-*/*.log"))
        return f"the trials ended as {states}\n{[trial.intermediate_values for trial in made.trials]}\n{log}"
    best = yaml.safe_load((folder / "best.yaml").read_text())
    score = json.loads((folder / "trial-0000/best.json").read_text())["score"]
    found = (best["optim"]["lr"], made.best_value)
    return "" if found == (1e-2, score) else f"best.yaml and the study say {found}, not {(1e-2, score)}"


def wrong_in_service(predictions: list[Prediction]) -> str:
    """Send the same samples to the service of this project; say where it answers otherwise than `predict`."""
    module = imported("serving.service")
    ask = ask_app if hasattr(module, "build_app") else ask_server
    samples = as_json(some_samples())
    answers = ask([[sample] for sample in samples] + [samples])
    wrong = []
    for number, expected in enumerate(predictions):
        for got in (answers[number][0], answers[-1][number]):
            if not alike(got, expected):
                wrong.append(f"sample {number}: the service says {got}, and predict {expected}")
    return "\n".join(wrong)


def alike(got: Prediction, expected: Prediction) -> bool:
    """Whether two predictions are the same, their numbers to the digits that exported models hold to."""
    inputs = imported("task.inputs")
    return got.keys() == expected.keys() and all(
        abs(got[name] - value) <= inputs.TOLERANCE
        if isinstance(value, float)
        else got[name] == value or (name == "image" and differ_by_rounding(got[name], value))
        for name, value in expected.items()
    )


def differ_by_rounding(one: str, other: str) -> bool:
    """Whether two generated images, PNG files in base64, differ by a level of grey at most."""
    pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(file))), np.int16) for file in (one, other)]
    return pixels[0].shape == pixels[1].shape and bool(np.abs(pixels[0] - pixels[1]).max() <= 1)


def ask_app(requests: list[list[Any]]) -> list[list[Prediction]]:
    """Ask an app in this process."""
    service, settings = imported("serving.service"), imported("serving.settings")
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
