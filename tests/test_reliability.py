"""A run that ends in any way goes on as if it had not ended, and nothing that was saved is lost."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.projects import Project, by_framework, rendered, write

OLD = Path(__file__).with_name("schema-1")  # runs of release 0.1.0, stopped after two of three epochs


def without_loggers(framework: str, folder: Path) -> Project:
    return Project(write(rendered({"framework": framework, "loggers": []}), folder), "my_project")


@by_framework(26)
def test_a_run_of_release_0_1_0_goes_on_with_the_numbers_it_would_have_had(
    framework: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    old = shutil.copytree(OLD / framework, tmp_path / "old")
    project.run(
        "-m", "my_project.train", "--config", "old/config.yaml", "--out_dir", "old", "--resume", "auto"
    )
    assert (old / "metrics.csv").read_text() == (old / "whole.csv").read_text()
    manifest = (old / "checkpoints/step-00000015.json").read_text()
    assert '"schema": 3' in manifest


@by_framework(26)
def test_best_weights_of_release_0_1_0_still_predict(framework: str, tmp_path: Path) -> None:
    project = without_loggers(framework, tmp_path)
    shutil.copytree(OLD / framework, tmp_path / "old")
    assert "test/accuracy" in project.run("-m", "my_project.evaluate", "--run", "old")


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


def signalled(project: Project, out_dir: str, number: signal.Signals) -> int:
    """Send a signal to a run that has trained a few steps; return what it ends with."""
    command = [sys.executable, *RUN, "--out_dir", out_dir]
    metrics = project.folder / out_dir / "metrics.csv"
    with subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and run.poll() is None:
            if metrics.exists() and metrics.read_text().count("train/loss") >= 3:
                run.send_signal(number)
                break
            time.sleep(0.01)
        return run.wait(timeout=120)


@by_framework(5)
def test_a_signal_ends_a_run_saved_with_a_truthful_exit_code_and_it_goes_on_exactly(
    framework: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    project.run(*RUN, "--out_dir", "whole")
    codes = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 75}
    for number, code in codes.items():
        assert signalled(project, number.name, number) == code
        assert list((tmp_path / number.name / "checkpoints").glob("step-*.pt"))
        assert not (tmp_path / number.name / "curves.png").exists()  # it has not come to its end
    project.run(*RUN, "--out_dir", "SIGTERM", "--resume", "auto")
    whole, resumed = (tmp_path / name / "metrics.csv" for name in ("whole", "SIGTERM"))
    assert resumed.read_text() == whole.read_text()
