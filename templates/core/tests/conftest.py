"""What several tests share: settings of a short run, the data, and a run that is finished.

Nothing here knows what the task is. `configs/smoke.yaml` says which of its settings make a run short.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from my_project.config import Config
from my_project.interface import Data
from my_project.task.data import open_data
from my_project.task.objective import Objective
from my_project.train import run

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the CPU has the same numbers everywhere

SMOKE = Path(__file__).parents[1] / "configs/smoke.yaml"
NUM_STEPS = 24


@pytest.fixture(scope="session")
def smoke() -> Config:
    """The settings of `configs/smoke.yaml`."""
    return TypeAdapter(Config).validate_python(yaml.safe_load(SMOKE.read_text()))


@pytest.fixture
def small(smoke: Config, tmp_path: Path) -> Config:
    """Settings of a run that takes seconds, whatever the data: three validations, each after eight steps."""
    optim = replace(smoke.optim, schedule="plateau")
    steps = replace(smoke, epochs=NUM_STEPS, max_steps=NUM_STEPS, validate_every=NUM_STEPS // 3, log_every=1)
    return replace(steps, num_threads=1, out_dir=tmp_path / "run", optim=optim)


@pytest.fixture(scope="session")
def data(smoke: Config) -> Data:
    return open_data(smoke.data)


@pytest.fixture
def objective(smoke: Config, data: Data) -> Objective:
    return Objective(smoke.objective, data.about).eval()


@pytest.fixture(scope="session")
def trained(smoke: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The settings of a finished run of a hundred steps; its folder is for reading."""
    out_dir = tmp_path_factory.mktemp("runs") / "trained"
    steps = replace(smoke, epochs=100, max_steps=100, validate_every=20, log_every=1)
    cfg = replace(steps, num_threads=1, precision="fp32", out_dir=out_dir)
    run(cfg)
    return replace(cfg, resume="auto")


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> "CommandLine":
    return CommandLine(monkeypatch)


class CommandLine:
    """Gives a command its arguments, as `python -m` would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, *arguments: object) -> None:
        self.monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
