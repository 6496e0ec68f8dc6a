"""Two processes on this machine, started as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from my_project import seeding
from my_project.config import read_settings
from my_project.runs.metrics import MetricsFile
from my_project.trained import Trained
from my_project.training.loading import build_eval_loader

SMOKE = Path(__file__).parents[1] / "configs/smoke.yaml"
SETTINGS = ["--config", str(SMOKE), "--max_steps", "4", "--log_every", "1", "--num_threads", "1", "--precision", "fp32"]


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


def test_the_first_process_writes_for_both(two):
    logged = [step for step, _, name, _ in MetricsFile(two).read() if name == "lr"]
    assert logged == ["1", "2", "3", "4"]


@torch.inference_mode()
def test_two_processes_train_one_model_whose_scores_they_measure_together(two, data, objective):
    cfg = read_settings(two)
    trained, sums = Trained(two, cfg), {}
    for batch in build_eval_loader(data.val, cfg):
        for name, value in objective.measure(trained.net, batch, seeding.generator(0)).items():
            sums[name] = sums.get(name, 0) + value
    reached = {name: float(value) for step, _, name, value in MetricsFile(two).read() if step == "4"}
    for name, score in objective.scores(sums).items():
        assert reached[f"val/{name}"] == pytest.approx(score, rel=1e-3)


def test_many_processes_are_tried_out_without_starting_them():
    module = "my_project.check_world"
    done = run_module(module, "--size", "3", "--config", str(SMOKE))
    assert done.stdout.startswith("3 processes can train this: "), done.stderr


def test_two_processes_refuse_a_folder_that_holds_a_run(two):
    done = start(two)
    assert done.returncode == 1
    assert "it holds a run" in done.stderr
