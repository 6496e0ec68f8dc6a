"""What the loop of a project costs beside simpler loops."""

import json
import tempfile
from pathlib import Path
from statistics import median, quantiles

from tests.support.projects import FRAMEWORKS, Project, rendered, write

EPOCHS = 120  # of each loop
SETTINGS = {"model": {"width": 8}, "ema_decay": 0.99}
SCRIPT = Path(__file__).with_name("_loops.py")


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


def measure() -> str:
    loops = []
    with tempfile.TemporaryDirectory() as folder:
        for framework in FRAMEWORKS:
            files = write(rendered({"framework": framework}), Path(folder) / framework)
            loops += steps(framework, Project(files, "my_project"))
    table = "\n".join(loops)
    return f"""# Loops

Written by `make bench ARGS=loops`.

Milliseconds of a step with batches of 64 handwritten digits on one thread, in a project with everything on
(TensorBoard, `metrics.csv`, a progress bar, averaged weights, clipping, a schedule, the loss read every 10
steps) and in a simpler loop over the same model, data and batches. They take turns, {EPOCHS} epochs each.
Medians of their times, and the median and quartiles of the ratios of two epochs side by side.

| project | simpler loop | project | simpler | ratio | quartiles |
|---|---|---|---|---|---|
{table}
"""
