"""How many images a second a project for segmentation trains on, beside a plain loop."""

import json
import tempfile
from pathlib import Path
from statistics import median, quantiles

from benchmarks.loops import SCRIPT
from tests.support.projects import FRAMEWORKS, Project, rendered, write

EPOCHS = 9  # of each loop, of which the first warms up
BATCH = 16


def row(framework: str, project: Project) -> str:
    """A row of the table."""
    found = json.loads(project.run(SCRIPT, "my_project", str(EPOCHS)).splitlines()[-1])
    ours, plain = ([1000 * BATCH / step_ms for step_ms in found[name]] for name in ("everything", "plain"))
    ratios = [our / other for our, other in zip(ours, plain, strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return (
        f"| {framework} | {median(ours):.0f} | {median(plain):.0f} | {middle:.2f} | {low:.2f} to {high:.2f} |"
    )


def measure() -> str:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for framework in FRAMEWORKS:
            files = write(
                rendered({"task": "segmentation", "framework": framework}), Path(folder) / framework
            )
            rows.append(row(framework, Project(files, "my_project")))
    table = "\n".join(rows)
    return f"""# Segmentation

Written by `make bench ARGS=segmentation`.

Images a second of training on one thread: images of 32x32 pixels in batches of {BATCH}, in a project
with everything on (TensorBoard, `metrics.csv`, a progress bar, averaged weights, clipping, a schedule)
and in a plain loop over the same network, loss, data and batches. They take turns, {EPOCHS} epochs each.
Medians, and the median and quartiles of the ratios of two epochs side by side; 1.00 would be a loop
that costs nothing.

| project | images/s | plain loop | ratio | quartiles |
|---|---|---|---|---|
{table}
"""
