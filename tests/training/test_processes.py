"""Several processes on one machine begin, train and end together, every time."""

import secrets
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Say
from tests.support.forks import PROC, left_behind
from tests.support.forkserver import MARK
from tests.support.projects import FRAMEWORKS, Project, by_pair, rendered, times, write

TIMES = times(1, 20)
SHORT = ["--max_steps", "2", "--model.width", "8", "--num_threads", "1"]
FILES = [
    ".lock",
    "best.json",
    "best.pt",
    "config.yaml",
    "confusion.png",
    "curves.png",
    "metrics.csv",
    "run.json",
    "sums.pt",
]
FIRST_LINE = "loading PyTorch ...\n"  # all that a run says on stderr
CHECKPOINT = ["checkpoints/step-00000002.json", "checkpoints/step-00000002.pt"]


def without_loggers(framework: str, strategy: str, folder: Path) -> Project:
    files = rendered({"framework": framework, "strategy": strategy, "loggers": []})
    return Project(write(files, folder), "my_project")


def wrong_with(project: Project, run: str, processes: int) -> str:
    """Train once; say what did not end as it should, or nothing."""
    mark = secrets.token_hex(8)
    own = {MARK: mark, "METRICS_ADDRESS": ""}  # runs side by side cannot all be scraped at the same port
    train = ("-m", f"{project.package}.train", *SHORT, "--out_dir", run)
    try:
        done = project.start(*train, processes=processes, timeout_s=120, **own)
        wrong = (
            f"exit code {done.returncode}:\n{done.stderr}"
            if done.returncode or done.stderr != FIRST_LINE
            else ""
        )
    except subprocess.TimeoutExpired:
        wrong = "it hung"
    if left := left_behind(mark):
        wrong += f"\n{len(left)} processes left behind"
    folder = project.folder / run
    wanted = sorted([*FILES, *CHECKPOINT])
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if not wrong and found != wanted:
        wrong = f"the run folder holds {found}"
    return wrong


@pytest.mark.skipif(not PROC.is_dir(), reason="what is left behind is looked up in /proc")
@pytest.mark.cold
@pytest.mark.soak
@pytest.mark.timeout(150 * TIMES)
@by_pair(6, 8)
def test_two_processes_end_cleanly_each_time(framework: str, strategy: str, tmp_path: Path, say: Say) -> None:
    project = without_loggers(framework, strategy, tmp_path)
    wrong = [wrong_with(project, f"runs/{number}", processes=2) for number in range(TIMES)]
    say(f"{framework} {strategy}, two processes: {wrong.count('')} of {TIMES} ended cleanly")
    assert not any(wrong), "\n\n".join(filter(None, wrong))


@pytest.mark.cold
@by_pair()
def test_the_same_project_trains_in_one_process_without_a_launcher(
    framework: str, strategy: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, strategy, tmp_path)
    assert wrong_with(project, "runs/alone", processes=1) == ""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_project_for_one_process_refuses_several(framework: str, tmp_path: Path) -> None:
    project = without_loggers(framework, "single", tmp_path)
    done = project.start_fork("-m", "my_project.train", *SHORT, processes=2)
    assert done.returncode == 1
    assert "torchrun started 2 processes; this project trains in one" in done.stderr
    assert not (tmp_path / "runs").exists()
