"""What surrounds a run: schedulers, homes, closed streams, terminals without UTF-8, disks."""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from mlscaffold.catalogue.questions import Answers
from tests.support import forks, proofs
from tests.support.projects import FRAMEWORKS, SOAK, Project, by_framework, by_pair, rendered, write
from tests.support.proofs import once
from tests.support.services import free_port

TRAIN = ("-m", "my_project.train", "--max_steps", "2", "--num_threads", "1", "--model.width", "4")
# Of the second of four tasks on two nodes, which is none of torchrun's numbers.
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "train",
    "SLURM_JOB_NODELIST": "node[0-1]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_LOCALID": "1",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "node[0-1]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "1",
}

GetProject = Callable[[str], Project]
T = TypeVar("T")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> GetProject:
    @once
    def make(framework: str) -> Project:
        made = rendered(
            {"framework": framework, "loggers": [], "serving": "fastapi", "monitoring": "prometheus"}
        )
        return Project(write(made, tmp_path_factory.mktemp(framework)), "my_project")

    return make


def start(
    project: Project, *arguments: object, processes: int = 1, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Start a fork with environment variables of its own."""
    return forks.run(list(map(str, arguments)), project.folder, project.settings | settings, processes, 550)


def run_cold(project: Project, command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in which `python` is this interpreter, as a user does."""
    python = forks.python(cold=True)
    with proofs.apart():
        return subprocess.run(
            ["sh", "-c", command.replace("python", str(python))],
            cwd=project.folder,
            env=project.settings | settings,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=550,
        )


@by_framework()
def test_a_plain_python_within_an_allocation_of_slurm_trains_alone(
    project: GetProject, framework: str, tmp_path: Path
) -> None:
    done = start(project(framework), *TRAIN, "--out_dir", tmp_path / "run", **SLURM)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/run.json").read_text())["finished"] == 2


@by_pair()
def test_torchrun_has_the_last_word_within_an_allocation_of_slurm(
    framework: str, strategy: str, tmp_path: Path
) -> None:
    files = rendered({"framework": framework, "strategy": strategy, "loggers": []})
    ours = Project(write(files, tmp_path), "my_project")
    for settings in ({}, SLURM):
        name = "with" if settings else "without"
        done = start(ours, *TRAIN, "--out_dir", name, processes=2, **settings)
        assert done.returncode == 0, done.stderr
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("with", "without")]
    assert metrics[0] == metrics[1]
    tried = start(ours, "-m", "my_project.check_world", "--size", 4, "--model.width", 4, **SLURM)  # type: ignore[arg-type]
    assert tried.returncode == 0, tried.stderr


def part(cases: Sequence[tuple[T, str]], framework: str) -> Sequence[tuple[T, str]]:
    """What `make test` starts cold with a framework; `make soak` starts all with each."""
    return cases if SOAK else cases[FRAMEWORKS.index(framework) :: len(FRAMEWORKS)]


@pytest.mark.soak
@pytest.mark.cold
@by_framework()
def test_a_run_whose_streams_are_all_closed_trains(
    project: GetProject, framework: str, tmp_path: Path
) -> None:
    train = f"{' '.join(TRAIN)} --out_dir {tmp_path}"
    for name, closed in part((("all", "0<&- 1>&- 2>&-"), ("err", "2>&-")), framework):
        done = run_cold(project(framework), f"exec python {train}/{name} {closed}")
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / name / "run.json").read_text())["finished"] == 2


@by_framework()
def test_a_terminal_that_lacks_signs_shows_them_as_escapes(
    project: GetProject, framework: str, tmp_path: Path
) -> None:
    settings = {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [forks.python(), *TRAIN, "--out_dir", tmp_path / "caf\xe9"],
        cwd=project(framework).folder,
        env=project(framework).settings | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert r"caf\xe9" in done.stdout
    assert (tmp_path / "caf\xe9/best.json").exists()


@pytest.mark.soak
@pytest.mark.cold
@by_framework()
def test_predictions_for_a_full_disk_end_in_a_line(
    project: GetProject, framework: str, tmp_path: Path
) -> None:
    ours, run = project(framework), tmp_path / "run"
    ours.run_fork(*TRAIN, "--out_dir", run)
    for number, name in part(((1, "few.npy"), (500, "many.npy")), framework):
        np.save(tmp_path / name, np.zeros((number, 1, 8, 8), np.uint8))
        command = f"exec python -m my_project.predict --run {run} {tmp_path / name} > /dev/full"
        done = run_cold(ours, command)
        assert done.returncode == 1
        assert done.stderr.startswith("error: [Errno 28] No space left on device")
        assert done.stderr.count("\n") == 1, done.stderr


# A run on a file system that can flush files but no folders.
FLAT = """
import errno, os, stat
from my_project import train

flush = os.fsync

def fsync(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    flush(descriptor)

os.fsync = fsync
train.main()
"""


@by_framework()
def test_a_file_system_that_flushes_no_folders_is_good_enough(
    project: GetProject, framework: str, tmp_path: Path
) -> None:
    done = start(project(framework), "-c", FLAT, *TRAIN[2:], "--out_dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "NOT SAVED" not in done.stderr
    assert len(list((tmp_path / "run/checkpoints").glob("step-*.pt"))) == 1


@by_framework()
def test_home_is_found_in_paths_of_arguments_and_files(
    project: GetProject, framework: str, tmp_path: Path
) -> None:
    """After `--name=` and in YAML a shell leaves ~ as it is."""
    ours, (home, settings) = project(framework), (tmp_path, {"HOME": str(tmp_path)})
    (home / "given.yaml").write_text("out_dir: ~/run\n")
    np.save(home / "one.npy", np.zeros((1, 1, 8, 8), np.uint8))
    (newest,) = ("~/run/checkpoints/step-00000002.pt",)
    for arguments in (
        (*TRAIN, "--config=~/given.yaml"),
        (*TRAIN, "--out_dir=~/other", f"--resume={newest}", "--max_steps=3"),
        ("-m", "my_project.predict", "--run=~/run", "~/one.npy"),
        ("-m", "my_project.evaluate", "--run=~/other"),
        ("-m", "my_project.export", "--run=~/run", "--format=onnx"),
    ):
        done = start(ours, *arguments, **settings)  # type: ignore[arg-type]
        assert done.returncode == 0, done.stderr
    assert (home / "run/export/model.onnx").exists()
    assert (home / "other/checkpoints/step-00000003.pt").exists()
    assert not (ours.folder / "~").exists()
    missing = start(ours, *TRAIN, "--data.root=~nobody-of-this-name/x")
    assert (missing.returncode, missing.stderr.count("\n")) == (
        1,
        2,
    )  # the first says that PyTorch is being loaded
    assert "data.root=~nobody-of-this-name/x: there is no such folder" in missing.stderr


@pytest.mark.parametrize(
    ("verb", "given", "code", "told"),
    [
        ("train", "--max_steps 0", 1, "max_steps=0: there is nothing to train"),
        ("train", "--max_steps -2", 2, "greater than or equal to -1"),
        ("train", f"--seed {2**64}", 2, f"less than {2**64}"),
        ("train", "--data.rot x", 2, "--data.rot is not a setting. Did you mean --data.root?"),
        ("serve", "--prot 1", 2, "--prot is not a setting. Did you mean --port?"),
        ("serve", "--max_bach 1", 2, "--max_bach is not a setting. Did you mean --max_batch?"),
        ("tune", "--trails 3", 2, "--trails is not a setting. Did you mean --trials?"),
        ("check_world", "--szie 3", 2, "--szie is not a setting. Did you mean --size?"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_in_a_line(
    verb: str, given: str, code: int, told: str, tmp_path: Path
) -> None:
    answers: Answers = {"strategy": "ddp", "loggers": [], "serving": "fastapi", "hpo": "optuna"}
    ours = Project(write(rendered(answers), tmp_path), "my_project")
    done = start(ours, "-m", f"my_project.{verb}", *given.split())
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    said = done.stderr.removeprefix("loading PyTorch ...\n")
    assert said.count("\n") == 1, done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_largest_seed_trains(project: GetProject, tmp_path: Path) -> None:
    done = start(project(FRAMEWORKS[0]), *TRAIN, "--seed", 2**64 - 1, "--out_dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr


SCRAPED = """
import os
from urllib.request import ProxyHandler, build_opener
from my_project import config, train

def scrape(samples, score):
    address = os.environ["METRICS_ADDRESS"]
    text = build_opener(ProxyHandler({})).open(f"http://{address}/metrics").read().decode()
    print(sum(line.startswith("training_step") for line in text.splitlines()))

train.run(config.parse("train")[0], scrape)
"""


@by_framework()
def test_metrics_are_scraped_at_an_address_of_ipv6(
    project: GetProject, framework: str, tmp_path: Path
) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("This machine has no IPv6.")
    settings = {"METRICS_ADDRESS": f"[::1]:{free_port()}"}
    done = start(project(framework), "-c", SCRAPED, *TRAIN[2:], "--out_dir", tmp_path / "run", **settings)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert "\n1\n" in f"\n{done.stdout}", os.fspath(tmp_path)
