"""A process that stops answering is named and ended, and what is started again goes on to the same end."""

import json
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from itertools import cycle, islice

import pytest

from tests.conftest import Say
from tests.support import forks, proofs
from tests.support.projects import FRAMEWORKS, PARALLEL, Project, by_framework, by_pair, times
from tests.support.proofs import once
from tests.support.releases import ROOT
from tests.training.test_resume import (
    COMMON,
    DROPOUT,
    IMAGES,
    VARIANTS,
    Forked,
    Harm,
    check_end,
    write_project,
)

TIMEOUT_S = 6  # longer than a busy machine lets a process wait for its turn
LATER_S = 10  # than the timeout: when a run has to have ended at the latest
MOST_S = 120  # of a run
PLACES = {"step": (1, 50), "validation": (1, 16), "save": (7, 20)}  # of 56, and of saves those of states

MakeForked = Callable[[str, str], Forked]


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> MakeForked:
    """A project that trains in two processes."""

    @once
    def make(framework: str, strategy: str) -> Forked:
        folder = write_project(IMAGES, framework, strategy, tmp_path_factory.mktemp("project"))
        return Forked(folder, 2)

    return make


def hang(project: Forked, run: str, harm: Harm, timeout_s: int = TIMEOUT_S) -> tuple[list[int], float, str]:
    """Train, and let a process hang: exit codes of those that can end, seconds until then, and the log."""
    came, log = project.folder / "came", project.folder / "log.txt"
    came.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    store, running = project.start(
        [*project.arguments(run, VARIANTS[0]), "--timeout", str(timeout_s)], harm, came
    )
    stopped = {harm["rank"]} if "signal" in harm else set()
    try:
        codes = [fork.wait(MOST_S) for rank, fork in enumerate(running) if rank not in stopped]
        seconds = time.time() - came.stat().st_mtime
    finally:
        for fork in running:  # as a launcher does
            fork.kill()
    del store
    return codes, seconds, log.read_text()


def check_hang(project: Forked, run: str, harm: Harm) -> float:
    """A process that hangs is named, all end, and the run goes on to its end; the seconds until they end."""
    codes, seconds, log = hang(project, run, harm)
    stopped = "signal" in harm
    assert codes == [75] * (1 if stopped else 2), (harm, log)
    assert seconds < TIMEOUT_S + LATER_S, harm
    missing, other = int(harm["rank"]), 1 - int(harm["rank"])
    named = rf"no answer from process {missing} \([^,]+, process \d+\) for {TIMEOUT_S} s "
    assert re.search(rf"{named}.*\. Process {other} is here:\n  File", log), log
    assert ("in come\n" in log) is not stopped, log  # one that can say so itself tells where it hangs
    project.go_on(run, VARIANTS[0])
    check_end(project, run, 0, harm)
    return seconds


@by_pair(5, 8)
@pytest.mark.soak
@pytest.mark.timeout(6000)
def test_a_process_that_stops_answering_is_named_and_all_end_within_the_timeout(
    forked: MakeForked, framework: str, strategy: str, say: Say
) -> None:
    """Some are stopped, others are busy for ever, in a step, a validation or a save of the first one."""
    project, chance, number = forked(framework, strategy), random.Random(4), times(3, 20)
    ways: list[Harm] = [{"signal": "SIGSTOP"}, {"sleep_s": 10000}]
    slowest = 0.0
    for i, where in enumerate(islice(cycle(PLACES), number)):
        rank = 0 if where == "save" else i % 2
        kind = ways[(i + FRAMEWORKS.index(framework)) % 2]
        harm: Harm = {"where": where, "at": chance.randint(*PLACES[where]), "rank": rank, **kind}
        slowest = max(slowest, check_hang(project, f"hung-{i}", harm))
    say(
        f"{framework} {strategy}: {number} of {number} processes that did not answer were named; all ended"
        f" within {slowest:.1f} s, of which {TIMEOUT_S} s are the timeout, and went on to the same end"
    )


@by_framework(8)
def test_a_validation_that_takes_longer_than_the_timeout_and_a_process_that_is_late_end_nothing(
    forked: MakeForked, framework: str
) -> None:
    project = forked(framework, PARALLEL[0])
    long: Harm = {"where": "validation", "at": 2, "sleep_s": 8}
    late: Harm = {"where": "step", "at": 5, "sleep_s": 2, "rank": 1}
    for run, harm, timeout_s in (("long", long, 5), ("late", late, TIMEOUT_S)):
        codes, _, log = hang(project, run, harm, timeout_s)
        assert codes == [0, 0], log
        assert "no answer" not in log
        check_end(project, run, 0, harm)


def launch(
    project: Forked, harm: Mapping[str, str | float], *settings: str, cold: bool = False
) -> subprocess.CompletedProcess[str]:
    """Train by torchrun, which starts all processes again if one ends; they are forks unless `cold`."""
    came = project.folder / "elsewhere/came"  # where no other run is
    shutil.rmtree(came.parent, ignore_errors=True)
    came.parent.mkdir()
    torchrun = ["--nproc-per-node", "2", "--max-restarts", "3", "--shutdown-timeout", "2"]
    program = ["-m", "tests.support.harmed_run", "my_project", json.dumps({**harm, "came": str(came)})]
    ours = Project(project.folder, "my_project").settings
    with proofs.apart():
        return subprocess.run(
            [forks.python(cold=cold), "-m", "torch.distributed.run", *torchrun, *program, *settings],
            cwd=came.parent,
            env=ours | {"PYTHONPATH": f"{ours['PYTHONPATH']}:{ROOT}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=300,
        )


def check_launch(project: Forked, harm: Harm, *, cold: bool = False) -> str:
    """A run that torchrun starts again is the same one, and ends as one that nothing disturbed."""
    settings = [*COMMON, *DROPOUT, *VARIANTS[0], "--timeout", str(TIMEOUT_S), "--data.batch_size", "16"]
    done = launch(project, harm, *settings, "--resume", "auto", cold=cold)
    assert done.returncode == 0, (harm, done.stderr)
    assert (project.folder / "elsewhere/came").exists()
    [run] = (project.folder / "elsewhere/runs").iterdir()
    project.run(run.name).parent.mkdir(exist_ok=True)
    shutil.rmtree(project.run(run.name), ignore_errors=True)  # of the launch before
    run.rename(project.run(run.name))
    check_end(project, run.name, 0, harm)
    return done.stderr


@by_framework(5, 8)
@pytest.mark.soak
@pytest.mark.timeout(6000)
def test_torchrun_starts_a_run_again_of_which_one_process_was_killed(
    forked: MakeForked, framework: str, say: Say
) -> None:
    project = forked(framework, PARALLEL[FRAMEWORKS.index(framework) % len(PARALLEL)])
    chance, number = random.Random(5), times(2, 20)
    for i, where in enumerate(islice(cycle(["save", "step", "validation"]), number)):
        rank = 0 if where == "save" else i % 2
        low, high = PLACES[where]
        check_launch(
            project, {"where": where, "at": chance.randint(low, high), "rank": rank, "signal": "SIGKILL"}
        )
    say(f"{framework}: one of two processes was killed {number} times; {number} went on to the same end")


@pytest.mark.cold
@pytest.mark.timeout(600)
def test_torchrun_starts_a_run_again_of_which_one_process_was_stopped(forked: MakeForked) -> None:
    """Cold, as a user does."""
    harm: Harm = {"where": "step", "at": 20, "rank": 1, "signal": "SIGSTOP"}
    said = check_launch(forked("lightning", "ddp"), harm, cold=True)
    assert re.search(r"no answer from process 1 \(", said), said
