"""What the loop of a project costs beside simpler loops, and how long it takes to begin."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from tests.support.projects import FRAMEWORKS, Project, rendered, write

EPOCHS = 120  # of each loop
REPEATS = 7  # of each beginning
SETTINGS = {"model": {"width": 8}, "ema_decay": 0.99}
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
    found = json.loads(project.run(SCRIPT, "my_project", str(EPOCHS), json.dumps(SETTINGS)).splitlines()[-1])
    everything = found.pop("everything")
    rows = []
    for name, other in found.items():
        ratios = [whole / part for whole, part in zip(everything, other, strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        rows.append(
            f"| {framework} | {name.replace('_', ' ')} | {median(everything):.2f} | {median(other):.2f} |"
            f" {middle:.2f} | {low:.2f} to {high:.2f} |"
        )
    return rows


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
steps) and in a simpler loop over the same model, data and batches. They take turns, {EPOCHS} epochs each.
Medians of their times, and the median and quartiles of the ratios of two epochs side by side.

| project | simpler loop | project | simpler | ratio | quartiles |
|---|---|---|---|---|---|
{table}

## How long it takes to begin

Seconds from the start of Python to the end of the first optimizer step, beside those that importing the
framework takes alone. The best of {REPEATS}, in turn.

| project | import | first step | difference | ratio |
|---|---|---|---|---|
{start}
"""
