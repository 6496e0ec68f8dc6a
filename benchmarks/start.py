"""What a run costs before its first step, beside a plain loop; and what a command costs that only answers."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from itertools import pairwise, product
from pathlib import Path

from tests.support.projects import Project, rendered, write

ROUNDS = 3
PAGE = """\
# Before the first step

What `python -m benchmarks start` measured: seconds of CPU, on one thread, of processes that took turns,
the median of {rounds} of each ({versions}).

| From the start of Python to the first step | settings | torch | framework | libraries | own | all |
|---|--:|--:|--:|--:|--:|--:|
{steps}

*libraries* are those that AdamW and the digits bring: `torch._dynamo`, which the constructor of every
optimizer of torch imports, and scikit-learn with SciPy and pandas. A plain loop, which is as short as one
can be, imports them as well, and more slowly: a project lets Python not look for garbage meanwhile, which
takes 1.5 to 2 of its seconds. What a framework has imported already is counted there. *own* is all else that
is done until the first step; of a project: its modules and loggers, the data, the folder of the run, the
checks of the task, the engine, the step.

| An answer without a run | seconds of CPU |
|---|--:|
{answers}
"""
STAGES = """
import json, os, sys, time
seconds = [time.process_time()]
def stamp(*_):
    seconds.append(time.process_time())
{body}
def tell(*_):
    stamp()
    print(json.dumps(seconds), flush=True)
    os._exit(0)
register_optimizer_step_post_hook(tell)
{train}
"""
HOOK = "from torch.optim.optimizer import register_optimizer_step_post_hook"
LIBRARIES = "import sklearn.datasets, sklearn.model_selection, torch._dynamo; stamp()"
PROJECT = f"""
from my_project.config import parse, quick_imports; cfg, _ = parse("train"); stamp()
with quick_imports():
    import torch; stamp()
    import {{framework}}; stamp()
    {LIBRARIES}
    import my_project.training.run
    {HOOK}
"""
PLAIN = f"""
stamp()
import torch; stamp()
stamp()
{LIBRARIES}
{HOOK}
"""
LOOP = """
from torch import nn
digits = sklearn.datasets.load_digits()
train, _ = sklearn.model_selection.train_test_split(range(len(digits.target)), stratify=digits.target)
inputs, labels = torch.tensor(digits.data[train[:64]]).float(), torch.tensor(digits.target[train[:64]])
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(net.parameters(), 1e-3, fused=True)
nn.functional.cross_entropy(net(inputs), labels).backward()
optimizer.step()
"""
FRAMEWORKS = {
    "lightning": "pytorch_lightning, torchmetrics",
    "ignite": "ignite.distributed, ignite.engine, ignite.handlers, ignite.metrics",
}
TRAIN = "from my_project import train; train.run(cfg)"
ANSWERS = (
    *(
        f"python -m my_project.train {what}"
        for what in ("--help", "--print_config", "--optim.learning_rate=1")
    ),
    'python -c "import torch"',
    "python -c pass",
)
OF_RUN = ["--config", "configs/smoke.yaml", "--num_threads", "1"]


def measure() -> str:
    steps: dict[str, list[list[float]]] = {}
    answers: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        projects = {}
        for framework, loggers in product(FRAMEWORKS, ("none", "tensorboard")):
            name, chosen = f"{framework}, loggers {loggers}", [] if loggers == "none" else [loggers]
            files = write(rendered({"framework": framework, "loggers": chosen}), Path(scratch) / name)
            projects[name] = Project(files, "my_project"), PROJECT.format(framework=FRAMEWORKS[framework])
        some, _ = projects[name]
        for _ in range(ROUNDS):
            steps.setdefault("plain loop", []).append(stages(some, PLAIN, LOOP))
            for name, (project, body) in projects.items():
                steps.setdefault(name, []).append(stages(project, body, TRAIN))
            for command in ANSWERS:
                answers.setdefault(f"`{command}`", []).append(cpu_seconds(some, shlex.split(command)[1:]))
    medians = {name: [*map(statistics.median, zip(*rows, strict=True))] for name, rows in steps.items()}
    return PAGE.format(
        rounds=ROUNDS,
        versions=versions(),
        steps="\n".join(line(name, [*row, sum(row)]) for name, row in medians.items()),
        answers="\n".join(line(name, [statistics.median(each)]) for name, each in answers.items()),
    )


def line(name: str, seconds: Iterable[float]) -> str:
    return " | ".join([f"| {name}", *(f"{number:.2f}" for number in seconds)]) + " |"


def start(project: Project, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    settings = project.settings | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}  # as users run it
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=project.folder, env=settings, capture_output=True, text=True, check=False
    )


def stages(project: Project, body: str, train: str) -> list[float]:
    """Seconds of CPU between the points of a process, the last of which is its first optimizer step."""
    done = start(project, ["-c", STAGES.format(body=body, train=train), *OF_RUN])
    if done.returncode:
        raise SystemExit(done.stderr)
    at: list[float] = json.loads(done.stdout.splitlines()[-1])
    return [now - before for before, now in pairwise([0.0, *at[1:]])]


def cpu_seconds(project: Project, arguments: list[str]) -> float:
    """What a process computes, from its start to its end."""
    before = os.times()
    start(project, arguments)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def versions() -> str:
    names = ("torch", "pytorch-ignite", "pytorch-lightning", "scikit-learn")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)])
