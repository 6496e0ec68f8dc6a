"""Every run ends: by itself, by a signal, by an error, whatever becomes of loaders, disk and terminal."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlscaffold.catalogue.questions import Answers
from tests.support import forks, proofs
from tests.support.projects import FRAMEWORKS, SOAK, Project, by_framework, rendered, write

pytestmark = pytest.mark.cold  # forks hide what keeps a process from ending

LONGEST_S = 120  # of a run, on a busy machine
TRAIN = ("-m", "my_project.train", "--log_every", "1", "--num_threads", "1", "--model.width", "4")
WORKERS = ("--data.num_workers", "2")

# A run whose loader process stops at the 13th batch of the epoch: `hangs` for ever or `dies`.
STOPS = """
import os, signal, sys, time
from my_project import train
from my_project.training import loading

plain_order, plain_item = loading.TrainOrder.__iter__, loading.Reader.__getitem__

def order(self):
    for number, share in enumerate(plain_order(self)):
        yield None if number == 12 and not os.path.exists("mended") else share

def item(self, share):
    if share is None:
        os.kill(os.getpid(), signal.SIGKILL) if END == "dies" else time.sleep(1000)
    return plain_item(self, share)

loading.TrainOrder.__iter__, loading.Reader.__getitem__ = order, item
END = sys.argv.pop(1)
train.main()
"""


def small(framework: str, folder: Path, **answers: str | list[str]) -> Project:
    given: Answers = {"framework": framework, "loggers": [], **answers}
    return Project(write(rendered(given), folder), "my_project")


def start(project: Project, *arguments: str, cold: bool = True, **options: object) -> "subprocess.Popen[str]":
    """Start Python as a user does, as the first process of a session, or a stand-in for it that is a fork."""
    defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with proofs.apart():
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [forks.python(cold=cold), *arguments],
            cwd=project.folder,
            env=project.settings,
            start_new_session=True,
            text=True,
            **(defaults | options),
        )


def end(run: "subprocess.Popen[str]") -> str:
    """Wait for the end of all processes of a run; return what it said on stderr."""
    try:
        _, said = run.communicate(timeout=LONGEST_S)
        await_(lambda: not has_processes(run.pid), f"processes are left: {said}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    return str(said)


def has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def await_(fact: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not fact():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def await_step(run: "subprocess.Popen[str]", folder: Path, step: int) -> None:
    """Wait until a run has shown its loss after a step."""
    metrics = folder / "metrics.csv"
    row = f"\n{step},"
    await_(
        lambda: run.poll() is not None or (metrics.exists() and row in metrics.read_text()), "no such step"
    )
    assert run.poll() is None, run.communicate()


def newest(folder: Path) -> str:
    return max(path.stem for path in (folder / "checkpoints").glob("step-*.pt"))


def ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def left_alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, str, Path]:
    """A run with loader processes, started by nohup, after whose third step pipe and terminal are gone.

    Its exit code, what it said on stderr, and its project.
    """
    project = small(request.param, tmp_path_factory.mktemp(request.param))
    settings = ("--epochs", "2", "--out_dir", "run", *WORKERS)
    run = start(project, *TRAIN, *settings, preexec_fn=ignore_hangups)
    await_step(run, project.folder / "run", 3)
    assert run.stdout
    run.stdout.close()
    os.killpg(run.pid, signal.SIGHUP)
    said = end(run)
    return run.returncode, said, project.folder


def test_a_run_with_loader_processes_ends_and_leaves_none(left_alone: tuple[int, str, Path]) -> None:
    code, said, folder = left_alone
    assert (code, said) == (0, "loading PyTorch ...\n")
    assert json.loads((folder / "run/run.json").read_text())["finished"] == 40


def test_a_run_under_nohup_outlives_the_pipe_and_the_terminal_that_it_prints_to(
    left_alone: tuple[int, str, Path],
) -> None:
    code, _, folder = left_alone
    assert code == 0
    assert (folder / "run/curves.png").exists()


def test_a_prediction_that_nobody_reads_ends_quietly(left_alone: tuple[int, str, Path]) -> None:
    folder = left_alone[2]
    np.save(folder / "many.npy", np.zeros((500, 1, 8, 8), np.uint8))
    predict = start(Project(folder, "my_project"), "-m", "my_project.predict", "--run", "run", "many.npy")
    assert predict.stdout
    predict.stdout.close()
    assert end(predict) == ""


@pytest.mark.soak
@by_framework(5)
def test_a_signal_ends_a_run_that_waits_for_a_batch_with_its_state_saved(
    framework: str, tmp_path: Path
) -> None:
    project = small(framework, tmp_path)
    settings = (*TRAIN[2:], "--epochs", "1", "--out_dir", "run", "--resume", "auto")
    run = start(project, "-c", STOPS, "hangs", *settings, *WORKERS, cold=SOAK or framework == FRAMEWORKS[0])
    await_step(run, tmp_path / "run", 12)
    os.killpg(run.pid, signal.SIGTERM)
    said = end(run)
    assert run.returncode == 143
    assert "Traceback" not in said
    assert newest(tmp_path / "run") == "step-00000012"


@pytest.mark.soak
@by_framework(5)
def test_a_loader_process_that_dies_ends_a_run_with_its_state_saved(framework: str, tmp_path: Path) -> None:
    project = small(framework, tmp_path)
    settings = (*TRAIN[2:], "--epochs", "1", "--resume", "auto")
    cold = SOAK or framework != FRAMEWORKS[0]
    run = start(project, "-c", STOPS, "dies", *settings, *WORKERS, "--out_dir", "run", cold=cold)
    end(run)
    assert run.returncode == 1
    assert newest(tmp_path / "run") >= "step-00000008"  # what it had in hand is lost
    (tmp_path / "mended").touch()
    project.run_fork("-c", STOPS, "dies", *settings, "--out_dir", "run")
    project.run_fork("-c", STOPS, "dies", *settings, "--out_dir", "whole")
    whole, resumed = ((tmp_path / name / "metrics.csv").read_text() for name in ("whole", "run"))
    assert resumed == whole


def test_a_run_does_not_take_tensorboardx_for_tensorboard(tmp_path: Path) -> None:
    project = small("ignite", tmp_path, loggers=["tensorboard"])
    other = tmp_path / "src/tensorboardX"
    other.mkdir()
    (other / "__init__.py").write_text(
        "class SummaryWriter:\n    def __init__(self, *args, **kwargs): pass\n"
    )
    project.run_fork(*TRAIN, "--max_steps", "2", "--out_dir", "run")
    assert list((tmp_path / "run/tensorboard").glob("events*"))


@by_framework()
def test_names_of_classes_are_text_in_every_picture_and_line(framework: str, tmp_path: Path) -> None:
    project = small(framework, tmp_path)
    names = [r"a$\bad$", "<b>&amp;", "_c", "d\n\x1b[31m"]
    for name, color in zip(names, range(0, 200, 50), strict=True):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (color, number, 0)).save(tmp_path / "data" / name / f"{number}.png")
    data = ("--data.root", "data", "--data.batch_size", "16")
    project.run_fork(*TRAIN, *data, "--epochs", "1", "--out_dir", "run")
    assert (tmp_path / "run/confusion.png").exists()
    assert json.loads((tmp_path / "run/best.json").read_text())["about"]["classes"] == sorted(names)
    said = project.run_fork("-m", "my_project.predict", "--run", "run", "data/_c")
    assert {json.loads(line)["label"] for line in said.splitlines()} <= set(names)
    assert said.isprintable() or said.replace("\n", "").isprintable()


# A run in which no file can grow beyond 4,000 bytes from its first checkpoint on, for a while or to its end.
FULL = """
import resource, sys, threading
from my_project import train
from my_project.runs import files

limit = int(sys.argv.pop(1))
files.PAUSES_S = (1, 1, 5) if limit > 0 else (0.01, 0.01)
end = resource.getrlimit(resource.RLIMIT_FSIZE)
plain = files.save_checkpoint

def save(path, *others):
    files.save_checkpoint = plain
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, end[1]))
    if limit > 0:
        threading.Timer(1.5, resource.setrlimit, (resource.RLIMIT_FSIZE, end)).start()
    plain(path, *others)

files.save_checkpoint = save
train.main()
"""


@by_framework(5)
def test_a_disk_that_is_full_for_a_moment_costs_a_run_nothing(framework: str, tmp_path: Path) -> None:
    project = small(framework, tmp_path)
    settings = (*TRAIN[2:], "--epochs", "2")
    project.run_fork(*TRAIN, "--epochs", "2", "--out_dir", "whole")
    done = project.start_fork("-c", FULL, "1", *settings, "--out_dir", "run")
    assert done.returncode == 0, done.stderr
    assert "NOT SAVED" in done.stderr
    whole, met = ((tmp_path / name / "metrics.csv").read_text() for name in ("whole", "run"))
    assert met == whole


@by_framework(5)
def test_a_disk_that_stays_full_ends_a_run_with_a_line(framework: str, tmp_path: Path) -> None:
    project = small(framework, tmp_path)
    done = project.start_fork("-c", FULL, "0", *TRAIN[2:], "--epochs", "2", "--out_dir", "run")
    assert done.returncode == 1
    assert done.stderr.count("NOT SAVED") == 2
    assert "Mend that and try again; --resume auto continues a run." in done.stderr
    assert "Traceback" not in done.stderr


@by_framework(26)
def test_a_finished_run_that_is_asked_for_more_epochs_goes_on(framework: str, tmp_path: Path) -> None:
    project = small(framework, tmp_path)
    go_on = partial(project.run_fork, *TRAIN, "--out_dir", "run", "--resume", "auto", "--epochs")
    for epochs in (1, 3):
        go_on(str(epochs))
        assert newest(tmp_path / "run") == f"step-{20 * epochs:08}"
        assert json.loads((tmp_path / "run/run.json").read_text())["finished"] == 20 * epochs


@by_framework()
def test_a_second_run_in_a_folder_is_refused_until_the_first_is_gone(framework: str, tmp_path: Path) -> None:
    project = small(framework, tmp_path)
    settings = ("--epochs", "500", "--patience", "0", "--out_dir", "run", "--resume", "auto")
    first = start(project, *TRAIN, *settings, *WORKERS)
    await_step(first, tmp_path / "run", 23)
    second = project.start_fork(*TRAIN, *settings)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == (
        f"error: out_dir=run: another run is at work there, or was just now (process {first.pid})."
        " Stop it, or give another --out_dir."
    )
    os.kill(first.pid, signal.SIGKILL)  # its loaders are left to themselves
    end(first)
    project.run_fork(*TRAIN, *settings, "--max_steps", "45")
    rows = [row.split(",")[0] for row in (tmp_path / "run/metrics.csv").read_text().split() if "loss" in row]
    assert [int(step) for step in rows if step] == sorted(int(step) for step in rows if step)
