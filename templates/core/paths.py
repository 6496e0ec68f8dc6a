"""Paths: those in settings, and where runs are."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

File = Annotated[Path, BeforeValidator(os.path.expanduser)]  # ~ is home, which YAML and `--name=~/x` leave to us

RUNS = Path("runs")


def list_runs() -> list[Path]:
    """The folders of the runs in `runs/`, numbered or named. The newest, begun or continued last, comes first."""
    begun = [*RUNS.glob("*/config.yaml")]
    #: if hpo != "none"
    begun += RUNS.glob("*/best/config.yaml")  # trained with what a search has found
    #: endif
    begun.sort(key=lambda path: (path.stat().st_mtime_ns, len(path.parent.name), path.parent.name), reverse=True)
    return [path.parent for path in begun]


def newest_run() -> Path:
    """The newest run that has weights, which commands take without `--run`; without one, where the first will be."""
    return next((run for run in list_runs() if (run / "best.pt").exists()), RUNS / "0001")
