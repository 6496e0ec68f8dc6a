"""A run that ends in any way goes on as if it had not ended, and nothing that was saved is lost."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Say
from tests.support import forks, proofs
from tests.support.projects import STRATEGIES, Project, by_framework, rendered, times, write
from tests.support.releases import ROOT

# Runs of earlier releases: two that were stopped after two of three epochs, of which the second averaged its
# weights, and one that was stopped within its fifth epoch, after it had halved its rate on a plateau.
OLD = {
    release: Path(__file__).with_name(f"schema-{schema}")
    for release, schema in (("0.1.0", 1), ("0.3.1", 3), ("0.7.2", 4))
}


def without_loggers(framework: str, folder: Path) -> Project:
    return Project(write(rendered({"framework": framework, "loggers": []}), folder), "my_project")


@pytest.mark.parametrize("release", OLD)
@by_framework(26)
def test_a_run_of_an_earlier_release_goes_on_with_the_numbers_it_would_have_had(
    framework: str, release: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    old = shutil.copytree(OLD[release] / framework, tmp_path / "old")
    project.run_fork(
        "-m", "my_project.train", "--config", "old/config.yaml", "--out_dir", "old", "--resume", "auto"
    )
    assert (old / "metrics.csv").read_text() == (old / "whole.csv").read_text()
    newest = max((old / "checkpoints").glob("*.json"))
    assert '"schema": 5' in newest.read_text()


@pytest.mark.parametrize("release", OLD)
@by_framework(26)
def test_best_weights_of_an_earlier_release_still_predict(
    framework: str, release: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    shutil.copytree(OLD[release] / framework, tmp_path / "old")
    assert "test/accuracy" in project.run_fork("-m", "my_project.evaluate", "--run", "old")


RUN = (
    "-m",
    "my_project.train",
    "--epochs",
    "3",
    "--log_every",
    "1",
    "--num_threads",
    "1",
    "--model.width",
    "8",
)


@by_framework(3)
def test_a_run_that_goes_on_has_the_patience_of_its_own_settings(framework: str, tmp_path: Path) -> None:
    project = without_loggers(framework, tmp_path)
    settings = (*("--out_dir", "run", "--resume", "auto", "--log_every", "100"), *("--num_threads", "1"))
    learns_nothing = ("--optim.lr", "1e-9", "--model.width", "2")
    ended_with = []
    for patience, epochs in (("2", "30"), ("5", "40")):
        goal = ("--patience", patience, "--epochs", epochs)
        project.run_fork("-m", "my_project.train", *settings, *learns_nothing, *goal)
        last = (tmp_path / "run/metrics.csv").read_text().splitlines()[-1]
        ended_with.append(int(last.split(",")[1]))
    assert ended_with == [3, 6]  # the first epoch is the best, and two or five more are no better


def signalled(project: Project, out_dir: str, number: signal.Signals) -> int:
    """Send a signal to a run that has trained a few steps; return what it ends with.

    SIGTERM comes to one that was started as a user does, others come to forks.
    """
    python = forks.python(cold=number == signal.SIGTERM)
    metrics = project.folder / out_dir / "metrics.csv"
    with proofs.apart():
        run = subprocess.Popen(
            [python, *RUN, "--out_dir", out_dir],
            cwd=project.folder,
            env=project.settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    with run:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and run.poll() is None:
            if metrics.exists() and metrics.read_text().count("train/loss") >= 3:
                run.send_signal(number)
                break
            time.sleep(0.01)
        return run.wait(timeout=120)


@pytest.mark.cold
@by_framework(5)
def test_a_signal_ends_a_run_saved_with_a_truthful_exit_code_and_it_goes_on_exactly(
    framework: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    project.run_fork(*RUN, "--out_dir", "whole")
    codes = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 75, signal.SIGHUP: 129}
    for number, code in codes.items():
        assert signalled(project, number.name, number) == code
        assert list((tmp_path / number.name / "checkpoints").glob("step-*.pt"))
        assert not (tmp_path / number.name / "curves.png").exists()  # it has not come to its end
    project.run_fork(*RUN, "--out_dir", "SIGTERM", "--resume", "auto")
    whole, resumed = (tmp_path / name / "metrics.csv" for name in ("whole", "SIGTERM"))
    assert resumed.read_text() == whole.read_text()


FAILURES = """
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from my_project.config import Config, OptimConfig, UserError
from my_project.model import ModelConfig
from my_project.train import run

CFG = Config(epochs=2, log_every=5, num_threads=1, model=ModelConfig(width=8), ema_decay=0.9)
at, steps = "", 0  # what goes wrong, and in which step


def before(module, inputs):
    global steps
    if not (isinstance(module, torch.nn.Conv2d) and module.in_channels == 1 and module.training):
        return
    steps += 1
    if at == "error" and steps == 27:
        raise ValueError("broken")
    if at == "memory" and steps > 26 and len(inputs[0]) > 16:
        raise torch.OutOfMemoryError("out of memory")


def after(module, inputs, outputs):
    if at == "gradient" and steps == 7 and isinstance(module, torch.nn.Linear) and module.training:
        outputs.register_hook(lambda gradient: gradient * torch.inf)


register_module_forward_pre_hook(before)
register_module_forward_hook(after)


def trained(name, **settings):
    global at, steps
    at, steps = name, 0
    try:
        return run(replace(CFG, out_dir=Path(name), **settings))
    except (ValueError, UserError) as error:
        return str(error)


found = {name: trained(name) for name in ("whole", "error", "memory", "gradient")}
saved = torch.load(max(Path("gradient/checkpoints").glob("*.pt")), weights_only=True)
optimizer = saved["optimizer"] if "optimizer" in saved else saved["optimizer_states"][0]
states = optimizer["state"].values()
at = ""
found["resumed"] = run(replace(CFG, out_dir=Path("error"), resume="auto"))
found["updates"] = sorted({int(state["step"]) for state in states})
found["finite"] = all(bool(value.isfinite().all()) for state in states for value in state.values())
print(json.dumps(found))
"""


@by_framework(5, 6)
def test_errors_memory_that_runs_out_and_gradients_that_are_not_finite_lose_nothing(
    framework: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    found = json.loads(project.run_fork("-c", FAILURES).splitlines()[-1])

    assert found["error"] == "broken"  # and the state after step 26 was saved, within the second epoch
    assert found["resumed"] == found["whole"]
    whole, resumed = (tmp_path / name / "metrics.csv" for name in ("whole", "error"))
    assert resumed.read_text() == whole.read_text()

    assert found["memory"] == pytest.approx(found["whole"], abs=0.01)
    assert "micro_batches: 4\n" in (tmp_path / "memory/config.yaml").read_text()
    rows = [
        [float(line.split(",")[-1]) for line in (tmp_path / name / "metrics.csv").read_text().split()[1:]]
        for name in ("memory", "whole")
    ]
    assert rows[0] == pytest.approx(rows[1], rel=1e-3)

    assert found["gradient"].startswith("step 7: its gradient was not finite")
    assert sorted(path.name for path in (tmp_path / "gradient/checkpoints").glob("*.pt")) == [
        "step-00000010.pt"
    ]
    assert found["updates"] == [9]  # of ten steps
    assert found["finite"]


@pytest.mark.soak
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("strategy", STRATEGIES)
@by_framework(5, 10)
def test_a_gradient_that_is_not_finite_is_never_applied_in_any_process(
    framework: str, strategy: str, tmp_path: Path, say: Say
) -> None:
    files = rendered({"framework": framework, "strategy": strategy, "loggers": []})
    project = Project(write(files, tmp_path), "my_project")
    times_each = times(1, 17)
    script = (ROOT / "tests/support/nonfinite_runs.py", "my_project", str(times_each))
    said = project.run_fork(*script, processes=1 if strategy == "single" else 2)
    assert said.splitlines().count("never applied") == 3 * times_each
    say(f"{framework} {strategy}: not finite at {3 * times_each} random steps and ranks, never applied")


@pytest.mark.soak
@pytest.mark.timeout(1200)
@by_framework(8)
def test_weights_are_gathered_beside_another_exchange_without_harm_to_memory(
    framework: str, tmp_path: Path
) -> None:
    """With `DTensor.full_tensor`, half of the runs of 10,000 times crashed: decision 0013."""
    files = rendered({"framework": framework, "strategy": "fsdp", "loggers": []})
    script = (ROOT / "tests/support/sharded_saves.py", "my_project", str(times(3000, 100_000)))
    Project(write(files, tmp_path), "my_project").run_fork(*script, processes=2)
