"""A run that ends in any way goes on as if it had not ended, and nothing that was saved is lost."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import Say
from tests.support import forks, proofs
from tests.support.projects import FRAMEWORKS, SOAK, Project, by_framework, rendered, times, write
from tests.support.releases import ROOT
from tests.training.test_resume import (
    IMAGES,
    LANGUAGE,
    MADE,
    MASKS,
    PAIRS,
    TABLES,
    TEXTS,
    Case,
    answers,
    by_case,
    crossed,
)

# Of the task, settings and width 2 that a project of release 0.7.2 with Ignite had.
OLD = Path(__file__).with_name("run-of-0.7.2")


def without_loggers(framework: str, folder: Path) -> Project:
    return Project(write(rendered({"framework": framework, "loggers": []}), folder), "my_project")


@by_framework(26)
def test_a_run_of_a_release_before_1_0_is_refused_in_a_line_that_says_what_to_do(
    framework: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    shutil.copytree(OLD, tmp_path / "old")
    before = contents(tmp_path / "old")
    for verb, path in {
        "evaluate --run old": "old/best.json",
        "predict --run old image.png": "old/best.json",
        "train --out_dir old --resume auto --model.width 2": "old/checkpoints/step-00000023.pt",
    }.items():
        done = project.start_fork("-m", *f"my_project.{verb}".split())
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            f"error: {path}: a release before 0.8 of the template wrote it."
            " A new run can start from its weights: python -m my_project.train --init_from old"
        )
        assert "Traceback" not in done.stderr
    assert contents(tmp_path / "old") == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@by_framework(26)
def test_a_new_run_starts_from_the_weights_of_a_run_of_a_release_before_1_0(
    framework: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    learns_nothing = ("--optim.lr", "0", "--epochs", "1", "--model.width", "2")
    for given in (OLD, OLD / "best.pt"):
        out_dir = ("--out_dir", given.name)
        project.run_fork("-m", "my_project.train", "--init_from", given, *learns_nothing, *out_dir)
        old, new = (
            torch.load(path, weights_only=True)
            for path in (OLD / "best.pt", tmp_path / given.name / "best.pt")
        )
        assert old.keys() == new.keys()
        assert all(torch.equal(old[name], new[name]) for name in old)


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


def signalled(project: Project, out_dir: str, number: signal.Signals, *, cold: bool) -> int:
    """Send a signal to a run that has trained a few steps; return what it ends with.

    A run that is not started `cold`, as a user does, is a fork.
    """
    python = forks.python(cold=cold)
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


@pytest.mark.soak
@pytest.mark.cold
@by_framework(5)
def test_a_signal_ends_a_run_saved_with_a_truthful_exit_code_and_it_goes_on_exactly(
    framework: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    project.run_fork(*RUN, "--out_dir", "whole")
    codes = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 75, signal.SIGHUP: 129}
    for number, code in codes.items():
        cold = number == signal.SIGTERM and (SOAK or framework == FRAMEWORKS[0])
        assert signalled(project, number.name, number, cold=cold) == code
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

from my_project.config import Config, OptimConfig
from my_project.errors import UserError
from my_project.task.settings import ModelConfig
from my_project.train import run

CFG = Config(
    epochs=2,
    log_every=5,
    num_threads=1,
    ema_decay=0.9,
    model=ModelConfig(width=8),
    optim=OptimConfig(accumulate=2),
)
at, batches = "", 0  # what goes wrong, and in which batch


def before(module, inputs):
    global batches
    if not (isinstance(module, torch.nn.Conv2d) and module.in_channels == 1 and module.training):
        return
    batches += 1
    if at == "error" and batches == 28:
        raise ValueError("broken")
    if at == "memory" and batches > 27:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")


def break_off(gradient):
    raise ValueError("broken behind")


def after(module, inputs, outputs):
    if not (isinstance(module, torch.nn.Linear) and module.training):
        return
    if at == "gradient" and batches == 13:
        outputs.register_hook(lambda gradient: gradient * torch.inf)
    if at == "backward" and batches == 28:
        outputs.register_hook(break_off)


register_module_forward_pre_hook(before)
register_module_forward_hook(after)


def trained(name, **settings):
    global at, batches
    at, batches = name, 0
    try:
        return run(replace(CFG, out_dir=Path(name), **settings))
    except (ValueError, UserError) as error:
        return str(error)


found = {name: trained(name) for name in ("whole", "error", "backward", "memory", "gradient")}
saved = torch.load(max(Path("gradient/checkpoints").glob("*.pt")), weights_only=True)
states = saved["update"]["optimizer"]["state"].values()
at = ""
for name in ("error", "backward", "memory"):
    found[name] = [found[name], max(path.stem for path in Path(name, "checkpoints").glob("*.pt"))]
    found[name].append(run(replace(CFG, out_dir=Path(name), resume="auto")))
found["updates"] = sorted({int(state["step"]) for state in states})
found["finite"] = all(bool(value.isfinite().all()) for state in states for value in state.values())
print("found", json.dumps(found))
"""


@by_framework(5, 6)
def test_errors_memory_that_runs_out_and_gradients_that_are_not_finite_lose_nothing(
    framework: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    lines = project.run_fork("-c", FAILURES).splitlines()
    found = json.loads(next(line for line in lines if line.startswith("found")).removeprefix("found"))

    messages = {
        "error": "broken",
        "backward": "broken behind",
        "memory": "memory ran out (CUDA out of memory). Lower data.batch_size and raise optim.accumulate,"
        " or set activation_checkpointing or precision=bf16.",
    }
    whole = (tmp_path / "whole/metrics.csv").read_text()
    for name, message in messages.items():  # all in the second batch of step 14, within the second epoch
        assert found[name] == [message, "step-00000013", found["whole"]]
        assert (tmp_path / name / "metrics.csv").read_text() == whole

    assert found["gradient"].startswith("step 7: its gradient was not finite")
    assert [path.name for path in (tmp_path / "gradient/checkpoints").glob("*.pt")] == ["step-00000010.pt"]
    assert found["updates"] == [9]  # of ten steps
    assert found["finite"]


# Samples of a batch, of which an epoch has nine or a few more.
NINTH = {IMAGES: 120, TABLES: 40, TEXTS: 500, LANGUAGE: 10, MASKS: 24, MADE: 240, PAIRS: 120}


def images_and_some_others(case: Case) -> bool:
    """Images in one process, masks with Lightning; of others, each framework and strategy of several once."""
    alone = case.strategy == "single" and (case.task == IMAGES or case[:2] == (MASKS, "lightning"))
    several = case.strategy != "single" and crossed(case)
    return alone or (case.task not in (TABLES, MASKS) and several)


@by_case(5, 10, among=images_and_some_others)
@pytest.mark.timeout(6000)
def test_a_gradient_that_is_not_finite_is_never_applied_in_any_process(
    task: str, framework: str, strategy: str, tmp_path: Path, say: Say
) -> None:
    project = Project(write(rendered(answers(task, framework, strategy)), tmp_path), "my_project")
    times_each = times(1, 17)
    script = (ROOT / "tests/support/nonfinite_runs.py", "my_project", str(times_each), str(NINTH[task]))
    ranks = 1 if strategy == "single" else 2
    said = project.run_fork(*script, processes=ranks, timeout_s=5900)  # within the own one
    assert said.splitlines().count("never applied") == 3 * times_each
    number = f"{3 * times_each} random steps and ranks"
    say(f"R7 {task} {framework} {strategy}: not finite at {number}, never applied")


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
