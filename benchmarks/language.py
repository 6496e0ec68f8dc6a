"""How many tokens a second the loop of a language model takes, beside a plain one."""

import json
import tempfile
from pathlib import Path
from statistics import median, quantiles

from benchmarks.loops import SCRIPT
from tests.support.projects import FRAMEWORKS, Project, rendered, write

EPOCHS = 8  # of each loop; the first one is not counted
TOKENS = 8 * 128  # of a step: `data.batch_size * data.window`


def rates(framework: str, project: Project) -> list[str]:
    """Rows of the table."""
    found = json.loads(project.run(SCRIPT, "my_project", str(EPOCHS), "{}").splitlines()[-1])
    everything = found.pop("everything")
    rows = []
    for name, other in found.items():
        low, middle, high = quantiles(
            [part / whole for whole, part in zip(everything, other, strict=True)], n=4
        )
        ours, theirs = (1000 * TOKENS / median(times) for times in (everything, other))
        rows.append(
            f"| {framework} | {name.replace('_', ' ')} | {ours:,.0f} | {theirs:,.0f} |"
            f" {middle:.3f} | {low:.3f} to {high:.3f} |"
        )
    return rows


def measure() -> str:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for framework in FRAMEWORKS:
            answers = {"framework": framework, "task": "language-modeling"}
            files = write(rendered(answers), Path(folder) / framework)
            rows += rates(framework, Project(files, "my_project"))
    table = "\n".join(rows)
    return f"""# Language

Written by `make bench ARGS=language`.

Tokens a second of training a language model with its default settings ({TOKENS:,} tokens a step) on one
thread, in a project with everything on (TensorBoard, `metrics.csv`, a progress bar, clipping, a schedule, the
loss read every 10 steps) and in a simpler loop over the same model, data and batches. They take turns,
{EPOCHS} epochs each. Medians, and the median and quartiles of the ratios of two epochs side by side; above 1
the project is faster.

| project | simpler loop | project | simpler | ratio | quartiles |
|---|---|---|---|---|---|
{table}
"""
