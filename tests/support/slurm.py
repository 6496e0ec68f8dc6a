"""A real Slurm of two nodes on this machine, which share its two cores, while a test module runs."""

import getpass
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import forks, proofs
from tests.support.projects import Project
from tests.support.servers import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
MOST_SECONDS = 240  # until a job is where a test wants it, on a busy machine
ENDED = {"CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}

# Nodes are named by addresses, which every machine knows. There are neither cgroups nor systemd.
# A job that was queued again waits until its credential has expired, which takes two minutes elsewhere.
CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge,cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=30
NodeName=127.0.0.1 NodeHostname=localhost Port={ports[1]} CPUs=2 RealMemory=500
NodeName=127.0.0.2 NodeHostname=localhost Port={ports[2]} CPUs=2 RealMemory=500
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """Two nodes, and a queue `all`."""

    folder: Path

    def call(self, *command: str, cwd: Path | None = None, **settings: str) -> str:
        """What a command of Slurm prints; raises an error with what it says if it fails."""
        own = os.environ | settings | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        with proofs.apart():
            done = subprocess.run(
                command, cwd=cwd, env=own, capture_output=True, text=True, check=False, timeout=60
            )
        if done.returncode:
            raise OSError(done.stderr)
        return done.stdout

    def submit(self, project: Project, script: str, *arguments: object) -> str:
        """Send a script of a project off from its folder; return the job's number. `python` is a fork."""
        path = f"{forks.python().parent}:{os.environ['PATH']}"
        settings = project.settings | {"PATH": path, "GLOO_SOCKET_IFNAME": "lo"}
        words = ["sbatch", "--parsable", f"launch/{script}.sh", *map(str, arguments)]
        return self.call(*words, cwd=project.folder, **settings).strip()

    def facts(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job; of an array, what it knows of its last task."""
        return dict(re.findall(r"(\w+)=(\S*)", self.call("scontrol", "show", "job", job).split("\n\n")[0]))

    def states(self, job: str) -> list[str]:
        """The state of a job, or those of all tasks of an array."""
        return re.findall(r"JobState=(\w+)", self.call("scontrol", "show", "job", job))

    def wait(self, job: str, project: Project) -> dict[str, str]:
        """Wait until a job, or all of its array, has ended; return what is known of it."""
        self.until(lambda: set(self.states(job)) <= ENDED, job, project)
        return self.facts(job)

    def until(self, condition: Callable[[], bool], job: str, project: Project) -> None:
        """Wait for something that a job does."""
        deadline = time.monotonic() + MOST_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text() for path in (project.folder / "launch").glob("*.log"))
                raise TimeoutError(f"{self.facts(job)}\n{logs}")
            time.sleep(0.1)


def programs() -> list[str]:
    """The paths of Slurm's and munge's programs, if they are all there."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    found = [shutil.which(name, path=path) for name in PROGRAMS]
    return [name for name in found if name] if all(found) else []


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if not programs():
        pytest.skip("slurm-wlm and munge are not installed; .ci/run does that")
    munged, slurmctld, slurmd, _ = programs()
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    ports = [free_port() for _ in range(3)]
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, user=getpass.getuser(), ports=ports))
    (folder / "state").mkdir()
    (folder / "key").write_bytes(secrets.token_bytes(128))
    (folder / "key").chmod(0o600)
    files = {"key-file": "key", "socket": "munge", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    config, cluster = ["-f", str(folder / "slurm.conf")], Slurm(folder)
    with ExitStack() as stack:
        start(stack, munged, "-F", "--force", *(f"--{name}={folder / file}" for name, file in files.items()))
        cluster_is_there(lambda: (folder / "munge").exists(), folder)
        start(stack, slurmctld, "-D", "-c", *config)
        for node in ("127.0.0.1", "127.0.0.2"):
            (folder / f"spool-{node}").mkdir()
            start(stack, slurmd, "-D", "-N", node, *config)
        idle = ["sinfo", "--noheader", "--states=idle", "--format=%D"]
        cluster_is_there(lambda: answer(cluster, *idle) == "2", folder)
        yield cluster
        cluster.call("scancel", "--user", getpass.getuser())
        cluster_is_there(lambda: answer(cluster, *idle) == "2", folder)
    shutil.rmtree(folder)


def start(stack: ExitStack, *command: str) -> None:
    with proofs.apart():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def answer(cluster: Slurm, *command: str) -> str:
    try:
        return cluster.call(*command).strip()
    except OSError:  # nobody listens yet
        return ""


def cluster_is_there(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("\n".join(path.read_text() for path in folder.glob("*.log")))
        time.sleep(0.05)
