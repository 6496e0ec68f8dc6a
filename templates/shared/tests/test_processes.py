"""Two processes on this machine, started as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from my_project.config import Config, DataConfig
from my_project.model import ModelConfig
from my_project.train import run

SETTINGS = ["--max_steps", "4", "--log_every", "1", "--model.width", "8", "--model.dropout", "0", "--num_threads", "1"]


def start(out_dir: Path) -> subprocess.CompletedProcess[str]:
    module = "my_project.train"
    launcher = ["torch.distributed.run", "--nproc-per-node", "2", "-m", module]
    return run_module(*launcher, *SETTINGS, "--out_dir", str(out_dir))


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of a run of two processes."""
    out_dir = tmp_path_factory.mktemp("two") / "run"
    done = start(out_dir)
    assert done.returncode == 0, done.stderr
    return out_dir


def test_two_processes_train_one_model(two):
    metrics = (two / "metrics.csv").read_text()
    assert "4,1,val/accuracy" in metrics
    assert metrics.count("train/loss") == 4  # the first process writes for both


def test_two_processes_see_the_samples_that_one_with_twice_the_batch_sees(two, tmp_path):
    one = tmp_path / "one"
    data, model = DataConfig(batch_size=128), ModelConfig(width=8, dropout=0.0)
    run(Config(max_steps=4, log_every=1, num_threads=1, out_dir=one, data=data, model=model))
    losses = [float((folder / "metrics.csv").read_text().splitlines()[1].split(",")[3]) for folder in (two, one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_many_processes_are_tried_out_without_starting_them():
    module = "my_project.check_world"
    done = run_module(module, "--size", "64", "--data.batch_size", "4", "--model.width", "8")
    assert done.stdout == "64 processes can train this: 256 samples a step, 5 steps an epoch\n", done.stderr


def test_two_processes_refuse_a_folder_that_holds_a_run(two):
    done = start(two)
    assert done.returncode == 1
    assert "it holds a run" in done.stderr
