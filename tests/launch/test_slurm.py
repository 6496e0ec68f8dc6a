"""Projects on a real Slurm of two nodes: what `launch/` and `distributed/slurm.py` promise."""

import hashlib
import json
import re
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mlscaffold.catalogue.questions import Answer
from tests.support import forks
from tests.support.projects import (
    FRAMEWORKS,
    PARALLEL,
    Project,
    by_framework,
    by_pair,
    rendered,
    times,
    write,
)
from tests.support.proofs import once
from tests.support.services import free_port
from tests.support.slurm import Slurm

SMALL = ["--model.width", "8", "--num_threads", "1", "--log_every", "1"]
TRAIN = [*SMALL, "--epochs", "4", "--validate_every", "5"]
# What whoever starts a job on two nodes without a GPU fills in and leaves out.
FILLED = {"=FILL_IN": "=all", "-per-node=8": "-per-node=1", "-per-task=8": "-per-task=1"}

MakeProject = Callable[..., Project]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> MakeProject:
    @once
    def make(framework: str, strategy: str, hpo: str = "none") -> Project:
        answers: dict[str, Answer] = {"framework": framework, "strategy": strategy, "hpo": hpo}
        files = rendered({**answers, "loggers": [], "launch": ["slurm"]})
        folder = write(files, tmp_path_factory.mktemp("project"))
        for script in (folder / "launch").glob("*.sh"):
            text = re.sub("#SBATCH --gpus.*\n", "", script.read_text())
            for old, new in FILLED.items():
                assert old in text or new in text
                text = text.replace(old, new)
            script.write_text(text)
        return Project(folder, "my_project")

    return make


def has_begun(run: Path) -> bool:
    """Whether a run has validated and saved once, and is not near its end."""
    return [*run.glob("checkpoints/*.pt")] != []


def digest(run: Path) -> str:
    """Of the metrics of a run, and of every value in its newest checkpoint."""
    found = hashlib.sha256((run / "metrics.csv").read_bytes())
    state = torch.load(max((run / "checkpoints").glob("*.pt")), weights_only=True)
    for name, value in sorted(state["module"].items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


@by_pair(28, alone=True)
@pytest.mark.soak
@pytest.mark.timeout(6000)
def test_a_job_whose_time_is_up_is_queued_again_and_ends_as_one_that_was_not_disturbed(
    slurm: Slurm, project: MakeProject, framework: str, strategy: str
) -> None:
    ours = project(framework, strategy)
    processes = 1 if strategy == "single" else 2
    ours.run_fork("-m", "my_project.train", *TRAIN, "--out_dir", "runs/undisturbed", processes=processes)
    for _ in range(times(1, 20)):
        job = slurm.submit(ours, "slurm", *TRAIN)
        run = ours.folder / f"runs/slurm-{job}"
        slurm.until(partial(has_begun, run), job, ours)
        slurm.call("scancel", "--signal=USR1", job)
        facts = slurm.wait(job, ours)
        log = (ours.folder / f"launch/{job}.log").read_text()
        assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), log
        assert "exit code 75" in log.lower()
        assert digest(run) == digest(ours.folder / "runs/undisturbed")


@by_framework()
def test_a_job_that_is_cancelled_saves_and_is_not_queued_again(
    slurm: Slurm, project: MakeProject, framework: str
) -> None:
    ours = project(framework, PARALLEL[FRAMEWORKS.index(framework) % len(PARALLEL)])
    job = slurm.submit(ours, "slurm", *SMALL, "--epochs", 1000)
    run = ours.folder / f"runs/slurm-{job}"
    metrics = run / "metrics.csv"
    slurm.until(lambda: metrics.exists() and "\n10," in metrics.read_text(), job, ours)
    before = {path.name for path in run.glob("checkpoints/*.pt")}
    slurm.call("scancel", job)
    facts = slurm.wait(job, ours)
    assert (facts["JobState"], facts["Restarts"]) == ("CANCELLED", "0")
    slurm.until(lambda: {path.name for path in run.glob("checkpoints/*.pt")} > before, job, ours)


@by_framework()
def test_an_array_of_jobs_trains_exactly_the_trials_of_one_study(
    slurm: Slurm, project: MakeProject, framework: str
) -> None:
    """Two of its three jobs run at a time, as there are two nodes; one that is signalled is queued again."""
    ours, count = project(framework, "ddp", "optuna"), times(5, 12)
    search = ["--trials", count, "--pruner", "none", *SMALL, "--epochs", 1, "--max_steps", 8]
    job = slurm.submit(ours, "search", *search)
    slurm.wait(job, ours)
    logs = "\n".join(path.read_text() for path in (ours.folder / "launch").glob(f"{job}-*.log"))
    assert slurm.states(job) == 3 * ["COMPLETED"], logs
    file = JournalStorage(JournalFileBackend(str(ours.folder / "runs/search.journal")))
    trials = optuna.load_study(study_name="search", storage=file).trials
    assert [trial.state for trial in trials] == count * [TrialState.COMPLETE]
    assert len({trial.user_attrs["config"]["out_dir"] for trial in trials}) == count
    assert (ours.folder / "runs/search/best.yaml").exists()


def test_a_script_whose_partition_is_not_filled_in_is_refused_before_it_waits(
    slurm: Slurm, tmp_path: Path
) -> None:
    files = rendered({"strategy": "ddp", "hpo": "optuna", "launch": ["slurm"]})
    ours = Project(write(files, tmp_path), "my_project")
    for script in ("slurm", "search"):
        path = tmp_path / f"launch/{script}.sh"
        path.write_text(re.sub("#SBATCH --gpus.*\n", "", path.read_text()))  # of which there are none here
        with pytest.raises(OSError, match="invalid partition specified: FILL_IN"):
            slurm.submit(ours, script)


@pytest.mark.parametrize(
    ("nodes", "tasks", "node", "first", "local"),
    [
        ("gpu1", "8", "0", "gpu1", "8"),
        ("gpu[07-09,12],cpu1", "8(x3),4(x2)", "2", "gpu07", "8"),
        ("gpu[07-09,12],cpu1", "8(x3),4(x2)", "3", "gpu07", "4"),
        ("rack[3,5]-gpu1", "2,1", "1", "rack3-gpu1", "1"),
        ("a1,b[2-3]", "1(x3)", "2", "a1", "1"),
    ],
)
def test_what_slurm_says_of_a_step_is_said_in_the_words_of_torchrun(
    project: MakeProject, nodes: str, tasks: str, node: str, first: str, local: str
) -> None:
    said = step(5, nodes) | {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": node}
    code = f"import os; os.environ |= {said}; from my_project.distributed import slurm; slurm.read()"
    names = "RANK WORLD_SIZE LOCAL_RANK GROUP_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT"
    shown = project("ignite", "ddp").run_fork("-c", f"{code}; print(*map(os.environ.get, {names.split()}))")
    assert shown.split() == ["5", "2", "0", node, local, first, "10007"]


def test_a_plain_python_in_an_allocation_of_several_tasks_trains_alone(
    project: MakeProject, tmp_path: Path
) -> None:
    """As in the script of a job itself: there Slurm names the tasks of the job, and no step."""
    ours, out = project("lightning", "ddp"), tmp_path / "run"
    named = {name: value for name, value in step(0).items() if "STEP" not in name}
    allocation = ours.settings | named | {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}
    words = ["-m", "my_project.train", *SMALL, "--max_steps", "2", "--out_dir", str(out)]
    done = forks.run(words, ours.folder, allocation, 1, 120)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "run.json").read_text())["processes"] == 1


def step(rank: int, nodes: str = "127.0.0.[1-2]", **more: str) -> dict[str, str]:
    """What Slurm tells a process that is alone on its node, one of two."""
    own = {"JOB_ID": "7", "STEP_NUM_TASKS": "2", "PROCID": str(rank), "LOCALID": "0", "NODEID": str(rank)}
    own |= {"STEP_NODELIST": nodes, "STEP_TASKS_PER_NODE": "1(x2)"}
    return {f"SLURM_{name}": value for name, value in own.items()} | {"GLOO_SOCKET_IFNAME": "lo"} | more


def ends(project: Project, folders: Sequence[Path], *, port: int, **more: str) -> list[str]:
    """The errors of one process a folder, each of another node and seeing its own folder alone."""
    started, logs = [], []
    for rank, folder in enumerate(folders):
        settings = project.settings | step(rank, MASTER_PORT=str(port), **more)
        logs.append(folder / f"log-{rank}")
        words = ["-m", "my_project.train", *SMALL, "--max_steps", "2"]
        started.append(forks.start(words, folder, settings, logs[-1], logs[-1]))
    try:
        assert [process.wait(120) for process in started] == [1] * len(folders)
    finally:
        for process in started:
            process.kill()
    for log in logs:
        assert "Traceback" not in log.read_text()
    return [log.read_text().splitlines()[-1] for log in logs]


def test_a_node_that_never_comes_is_named_within_the_time_that_is_set(
    project: MakeProject, tmp_path: Path
) -> None:
    port = free_port()
    [error] = ends(project("ignite", "ddp"), [tmp_path], port=port, JOIN_TIMEOUT_S="2")
    assert error.startswith(f"error: 127.0.0.1:{port}: of 2 processes, 1 did not come within 2 s")


@pytest.mark.parametrize("seconds", ["soon", "nan", "inf"])
def test_a_time_that_is_no_number_of_seconds_is_refused(
    seconds: str, project: MakeProject, tmp_path: Path
) -> None:
    [error] = ends(project("ignite", "ddp"), [tmp_path], port=free_port(), JOIN_TIMEOUT_S=seconds)
    assert error == f"error: JOIN_TIMEOUT_S={seconds}: give a number of seconds."


def test_a_port_in_use_is_named(project: MakeProject, tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        [error] = ends(project("ignite", "ddp"), [tmp_path], port=port)
    assert error == f"error: MASTER_PORT={port}: it is in use on 127.0.0.1. Give another one."


def test_nodes_that_do_not_see_each_others_files_are_told_at_the_start(
    project: MakeProject, tmp_path: Path
) -> None:
    nodes = [tmp_path / "first", tmp_path / "second"]
    for node in nodes:
        node.mkdir()
    errors = ends(project("ignite", "ddp"), nodes, port=free_port())
    text = "processes 1 do not see what process 0 writes there. All nodes need the same disk there."
    assert errors == [f"error: {node / 'runs'}: {text}" for node in nodes]
    assert [*(tmp_path / "first/runs").iterdir()] == []
