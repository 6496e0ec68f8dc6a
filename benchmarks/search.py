"""How fast trials go through a storage, and how many steps of training pruning saves."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna

from tests.support.projects import Project, rendered, write
from tests.support.servers import free_port, wait_for

TRIALS, REPEATS = 200, 3
SEARCH, EPOCHS, SEEDS = 30, 10, (0, 1)
# A worker whose trials report a score and end, without training: what remains is the storage and the sampler.
WORKER = """
import sys
from my_project import train
from my_project.search.run import Worker
from my_project.search.settings import read_command

def run(cfg, report):
    score = -(cfg.optim.lr - 0.003) ** 2 + cfg.model.dropout
    report(1, score)
    return score

train.run = run
one = Worker()
one.open(*read_command())
print("ready", flush=True)
sys.stdin.readline()
one.work()
"""
CREATE = """
from my_project.search.run import Worker
from my_project.search.settings import read_command
Worker().open(*read_command())
"""


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(port)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def trials_a_second(project: Project, url: str, study: str, workers: int) -> float:
    """Start the clock when every worker has imported what it needs, and stop it when each has ended."""
    flags = ["--study", study, "--trials", str(TRIALS), "--storage", url, "--num_threads", "1"]
    project.run("-c", CREATE, *flags)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *flags],
            cwd=project.folder,
            env=project.settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(workers)
    ]
    for worker in running:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    begin = time.perf_counter()
    for worker in running:
        assert worker.stdin
        print("go", file=worker.stdin, flush=True)
    assert [worker.wait() for worker in running] == [0] * workers
    return TRIALS / (time.perf_counter() - begin)


def storages(project: Project) -> Iterator[str]:
    """A row for each storage: the best of some repeats, which alternate."""
    with redis(project.folder) as url:
        places = {"SQLite (default)": "sqlite:///{}.db", "journal file": "{}.log", "Redis": url}
        if not shutil.which("redis-server"):
            del places["Redis"]
        speeds: dict[tuple[str, int], list[float]] = {}
        for repeat in range(REPEATS):
            for number, (name, place) in enumerate(places.items()):
                for workers in (1, 2):
                    study = f"study-{number}-{workers}-{repeat}"
                    speed = trials_a_second(project, place.format(study), study, workers)
                    speeds.setdefault((name, workers), []).append(speed)
        for name in places:
            ordered = [sorted(speeds[name, workers]) for workers in (1, 2)]
            cells = [f"{some[-1]:.0f} | {some[REPEATS // 2]:.0f}" for some in ordered]
            yield f"| {name} | {' | '.join(cells)} |"


def pruning(project: Project) -> Iterator[str]:
    """A row for each seed and pruner: the same proposals, with and without an early end for the bad ones."""
    for seed in SEEDS:
        spent: dict[str, int] = {}
        for pruner in ("none", "median", "hyperband"):
            study = f"{pruner}-{seed}"
            flags = f"--sampler random --epochs {EPOCHS} --seed {seed} --trials {SEARCH} --study {study}"
            project.run("-m", "my_project.tune", *flags.split(), "--pruner", pruner, "--num_threads", "1")
            folder = project.folder / "runs" / study
            spent[pruner] = sum(last_step(run) for run in folder.glob("trial-*/metrics.csv"))
            best = optuna.load_study(study_name=study, storage=f"sqlite:///{folder}/study.db").best_value
            saved = 1 - spent[pruner] / spent["none"]
            yield f"| {seed} | {pruner} | {spent[pruner]} | {saved:.0%} | {best:.4f} |"


def last_step(metrics: Path) -> int:
    return int(metrics.read_text().splitlines()[-1].partition(",")[0])


def measure() -> str:
    with tempfile.TemporaryDirectory() as folder:
        answers = {"framework": "ignite", "hpo": "optuna", "loggers": []}
        project = Project(write(rendered(answers), Path(folder)), "my_project")  # type: ignore[arg-type]
        speed, saved = "\n".join(storages(project)), "\n".join(pruning(project))
    return f"""# Search

Written by `make bench ARGS=search`.

## Trials a second that a storage bears

{TRIALS} trials of the TPE sampler over five settings, each with one report, a decision whether to prune, and
what keeps it from being lost, but without training. Best and median of {REPEATS} runs that
alternate.

| storage | 1 worker, best | median | 2 workers, best | median |
|---|---|---|---|---|
{speed}

## Steps of training that pruning saves

{SEARCH} trials of up to {EPOCHS} epochs on the handwritten digits. The random sampler proposes the same for
each pruner, so that the best value is equal unless the pruner ended the best trial early.

| seed | pruner | steps | saved | best value |
|---|---|---|---|---|
{saved}
"""
