"""What the loop of a project costs beside simpler loops, and how long it takes to begin."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.projects import FRAMEWORKS, Project, rendered, write

REPEATS = 7
SCRIPT = Path(__file__).with_name("_loops.py")
IMPORTS = {"lightning": "pytorch_lightning", "ignite": "ignite.engine"}
FIRST_STEP = """
import os
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(lambda *step: os._exit(0))
from my_project.train import main
main()
"""


def steps(framework: str, project: Project) -> list[str]:
    """Rows of the table of loops."""
    found = json.loads(project.run(SCRIPT, "my_project", str(REPEATS)).splitlines()[-1])
    everything = found.pop("everything")
    return [
        f"| {framework} | {name.replace('_', ' ')} | {min(everything):.2f} | {min(other):.2f} |"
        f" {min(everything) / min(other):.2f} | {median(everything) / median(other):.2f} |"
        for name, other in found.items()
    ]


def begin(framework: str, project: Project) -> str:
    """A row of the table of beginnings: the import alone and the first step, in turn."""
    seconds: dict[str, list[float]] = {}
    for number in range(REPEATS):
        arguments = ["train", "--out_dir", f"runs/{number}", "--num_threads", "1"]
        code = f"import sys; sys.argv = {arguments}\n{FIRST_STEP}"
        for name, script in (("import", f"import {IMPORTS[framework]}"), ("step", code)):
            start = time.perf_counter()
            command = [sys.executable, "-c", script]
            subprocess.run(command, cwd=project.folder, env=project.settings, check=True, capture_output=True)
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    alone, first = min(seconds["import"]), min(seconds["step"])
    return f"| {framework} | {alone:.2f} | {first:.2f} | {first - alone:.2f} | {first / alone:.2f} |"


def measure() -> str:
    loops, beginnings = [], []
    with tempfile.TemporaryDirectory() as folder:
        for framework in FRAMEWORKS:
            files = write(rendered({"framework": framework}), Path(folder) / framework)
            project = Project(files, "my_project")
            loops += steps(framework, project)
            beginnings.append(begin(framework, project))
    table, start = "\n".join(loops), "\n".join(beginnings)
    return f"""# Loops

Written by `make bench ARGS=loops`.

## What a step takes

Milliseconds of a step with batches of 64 handwritten digits on one thread, in a project with everything on
(TensorBoard, `metrics.csv`, a progress bar, averaged weights, clipping, a schedule, the loss read every 10
steps) and in a simpler loop over the same model, data and batches. The loops take turns, {REPEATS} times; the
best epochs, the ratio of them, and that of the medians.

| project | simpler loop | project | simpler | ratio | ratio of medians |
|---|---|---|---|---|---|
{table}

## How long it takes to begin

Seconds from the start of Python to the end of the first optimizer step, beside those that importing the
framework takes alone. The best of {REPEATS}, in turn.

| project | import | first step | difference | ratio |
|---|---|---|---|---|
{start}
"""
