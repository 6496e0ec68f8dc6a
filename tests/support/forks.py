"""Run Python programs in forks of a server that has imported what they import (`forkserver`).

One server is there for all that a run of pytest, or of the matrix, starts; the first fork starts it.
"""

import asyncio
import atexit
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import TYPE_CHECKING

from tests.support import durations, proofs
from tests.support.forkserver import MARK
from tests.support.releases import ROOT

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

FOLDER = "MLSCAFFOLD_TEST_FORKS"  # the environment variable that names the server's folder
COLD = "MLSCAFFOLD_TEST_COLD"  # whether the test that runs may start programs cold
PROJECTS, TOOL = "tests.support.preload", "tests.support.preload_tool"  # what servers import
PATIENCE_S = 300  # for the server to import everything, on a busy machine
PROC = Path("/proc")


def share() -> Path:
    """Let this process and all that it starts have one server; it is ended with this process."""
    if FOLDER not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="forks-"))
        os.environ[FOLDER] = str(folder)
        atexit.register(end_server, folder, os.getpid())
    return Path(os.environ[FOLDER])


def end_server(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        for pid in folder.glob("*/pid"):
            with suppress(OSError, ValueError):
                os.killpg(int(pid.read_text()), signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop(FOLDER, None)


def server(preload: str = PROJECTS) -> Path:
    """The folder of the server that has imported a module; it is started if nobody has done so."""
    folder = share() / preload
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "socket").exists():
            with durations.timed(f"starting the server of forks of {preload}"):
                start_server(folder, preload)
    return folder


def start_server(folder: Path, preload: str) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GIT_"))}
    own |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} if "MLSCAFFOLD_TEST_CUDA" not in own else {}
    log = folder / "log"
    with proofs.apart(), log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forkserver", str(folder), preload],
            cwd=ROOT,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    (folder / "pid").write_text(str(process.pid))
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / "socket").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the server of forks did not start:\n{log.read_text()}")
        time.sleep(0.05)


def python(*, cold: bool = False) -> Path:
    """A program that stands for Python and is a fork; `cold`, Python itself."""
    if cold:
        expect_cold()
    return Path(sys.executable) if cold else server() / "python"


def expect_cold() -> None:
    """Only tests that are marked `cold` start programs that import everything themselves."""
    if os.environ.get(COLD) == "no":
        raise RuntimeError("Mark this test with @pytest.mark.cold, or start a fork: see docs/testing.md.")


def used() -> dict[str, tuple[int, float]]:
    """How many forks there were so far, and how many seconds they computed, by what they were part of."""
    found: dict[str, tuple[int, float]] = {}
    for line in (line for notes in share().glob("*/used") for line in notes.read_text().splitlines()):
        label, _, seconds = line.rpartition("\t")
        number, total = found.get(label, (0, 0.0))
        found[label] = (number + 1, total + float(seconds))
    return found


@dataclass
class Fork:
    """A program that runs, or has run; it is asked as `subprocess.Popen` is."""

    pid: int
    connection: socket.socket
    returncode: int | None = None  # negative: the signal that it ended by
    cpu_seconds: float = 0.0

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; raises `TimeoutError`."""
        if self.returncode is None:
            self.connection.settimeout(timeout)
            self._end(self.connection.recv(64))
        return self.returncode or 0

    def poll(self) -> int | None:
        with suppress(TimeoutError, BlockingIOError):
            return self.wait(0)
        return None

    async def ended(self) -> int:
        """Wait without keeping others from running."""
        if self.returncode is None:
            self.connection.setblocking(False)
            self._end(await asyncio.get_running_loop().sock_recv(self.connection, 64))
        return self.returncode or 0

    def _end(self, told: bytes) -> None:
        code, _, seconds = told.decode().partition(" ")
        self.returncode, self.cpu_seconds = int(code or -signal.SIGKILL), float(seconds or 0)
        self.connection.close()

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and what belongs to its group, if it still runs."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait(60)


def start(
    arguments: Sequence[str],
    folder: Path,
    settings: Mapping[str, str],
    out: Path,
    err: Path,
    preload: str = PROJECTS,
) -> Fork:
    """Start `python *arguments`; what it prints goes to the end of files."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(server(preload) / "socket"))
    request = json.dumps([list(arguments), dict(settings), str(folder)]).encode()
    with Path(os.devnull).open("rb") as nothing, out.open("ab") as printed, err.open("ab") as said:
        socket.send_fds(connection, [request], [file.fileno() for file in (nothing, printed, said)])
    return Fork(int(connection.recv(16)), connection)


def run(
    arguments: Sequence[str], folder: Path, settings: dict[str, str], processes: int, timeout_s: float
) -> CompletedProcess[str]:
    """Run a program, in several processes as torchrun would; when one fails, the others are killed."""
    store, environments = rendezvous(processes) if processes > 1 else (None, [{}])
    with tempfile.TemporaryDirectory() as notes:
        out, err = Path(notes, "out"), Path(notes, "err")
        out.touch()
        forks = [start(arguments, folder, settings | own, out, err) for own in environments]
        try:
            codes = asyncio.run(together(forks, timeout_s))
        except TimeoutError:
            raise TimeoutExpired(arguments, timeout_s, out.read_text(), err.read_text()) from None
        del store  # they have ended
        code = next(filter(None, codes), 0)
        return CompletedProcess(list(arguments), code, out.read_text(), err.read_text())


async def together(forks: Sequence[Fork], timeout_s: float) -> list[int]:
    """Wait until all have ended, or one has failed, and end the others; return their exit codes."""
    try:
        waiting = {asyncio.ensure_future(fork.ended()) for fork in forks}
        async with asyncio.timeout(timeout_s):
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if failed := [task.result() for task in done if task.result()]:
                    return failed
        return [fork.returncode or 0 for fork in forks]
    finally:
        for task in waiting:
            task.cancel()
        for fork in forks:
            fork.kill()


def rendezvous(ranks: int) -> "tuple[TCPStore, list[dict[str, str]]]":
    """A store where processes meet, to be kept until they end, and what torchrun tells each of them.

    The store has a port before they start, so they race for none.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined] # takes seconds, which few tests need

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_RUN_ID": "matrix",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return store, [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def step_of_slurm(ranks: int) -> list[dict[str, str]]:
    """What Slurm tells each task of a step, one on each node. They meet at a port that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": str(ranks),
        "SLURM_LOCALID": "0",
        "SLURM_STEP_NUM_TASKS": str(ranks),
        "SLURM_STEP_NODELIST": "127.0.0.[1-9]",
        "SLURM_STEP_TASKS_PER_NODE": f"1(x{ranks})",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return [shared | {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)} for rank in range(ranks)]


def marked(mark: str) -> Iterator[int]:
    """The processes, of whatever parent or session, that belong to a run.

    One that Python was started for has the mark in its environment, a fork has an open file of this name.
    """
    for folder in PROC.glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes() or has_open(folder, mark):
                yield int(folder.name)
        except OSError:
            pass  # it has ended, or is somebody else's


def has_open(folder: Path, mark: str) -> bool:
    for file in (folder / "fd").iterdir():
        with suppress(OSError):
            if mark in str(file.readlink()):
                return True
    return False


def left_behind(mark: str, grace_s: float = 5) -> list[int]:
    """Processes that still run a moment after their launcher has ended; they are killed."""
    deadline = time.monotonic() + grace_s
    while (left := list(marked(mark))) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return left
