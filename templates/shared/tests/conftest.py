"""A short run that the tests look at from several sides."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from my_project.config import Config, OptimConfig
from my_project.model import ModelConfig
from my_project.train import run

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the CPU has the same numbers everywhere


@pytest.fixture
def small(tmp_path: Path) -> Config:
    """Settings of a run that takes seconds."""
    model, optim = ModelConfig(width=8), OptimConfig(schedule="plateau")
    return Config(epochs=2, log_every=1, num_threads=1, out_dir=tmp_path / "run", model=model, optim=optim)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The settings of a finished run that has learnt something."""
    out_dir = tmp_path_factory.mktemp("runs") / "trained"
    cfg = Config(epochs=5, num_threads=1, precision="fp32", out_dir=out_dir, model=ModelConfig(width=16))
    run(cfg)
    return replace(cfg, resume="auto")


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> "CommandLine":
    return CommandLine(monkeypatch)


class CommandLine:
    """Gives a verb its arguments, as `python -m` would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, *arguments: object) -> None:
        self.monkeypatch.setattr(sys, "argv", ["verb", *map(str, arguments)])
