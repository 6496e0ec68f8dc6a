"""Runs functions in forks of a server that has imported everything, a few at a time, each within a bound."""

import asyncio
import faulthandler
import itertools
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

PATIENCE_S = 240  # after which a fork is taken to hang; it computes for seconds
END_OF_LOG = 40  # lines
FOREIGN = (
    "MLFLOW_",
    "WANDB_",
    "OPTUNA_",
    "RANK",
    "LOCAL_",
    "WORLD_",
    "MASTER_",
)  # variables of this machine's user

NOT_OF_THE_RUN = {"SAVE_REQUIREMENTS": "false", "DISABLE_META": "true", "DISABLE_STATS": "true"}  # what
# wandb notes of the machine and its packages

SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(["tests.matrix.preload"])


STAGE: ContextVar[str] = ContextVar("STAGE", default="")  # whatever is called belongs to it
PART: ContextVar[str] = ContextVar("PART", default="")  # of the stage, the same in all of them


class RunError(Exception):
    """A fork that failed or hung; the text ends with the end of its log."""


@dataclass
class Used:
    """What a stage took."""

    forks: int = 0
    cpu_seconds: float = 0.0


@dataclass
class Pool:
    """Runs functions in forks, as many at once as there are slots."""

    folder: Path  # of logs and results
    slots: int
    device: str = "cpu"
    used: dict[str, "Used"] = field(default_factory=lambda: defaultdict(Used))  # by stage, and by part
    free: asyncio.Semaphore = field(init=False)

    @property
    def pictures(self) -> Path:
        """Where forks keep what they have drawn."""
        return self.folder / "pictures"

    def __post_init__(self) -> None:
        self.free = asyncio.Semaphore(self.slots)
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.numbers = itertools.count()
        self.environment = {"OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "110"}
        self.environment["HOME"] = str(self.folder)  # where nobody has an account
        self.environment |= {f"WANDB__{name}": value for name, value in NOT_OF_THE_RUN.items()}
        if self.device == "cpu":
            self.environment["CUDA_VISIBLE_DEVICES"] = ""

    async def __call__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        cwd: Path | None = None,
        path: Path | None = None,
        ranks: int = 0,
        patience_s: float = PATIENCE_S,
    ) -> list[Any]:
        """Call a function in a fork, or in several that train together; return what each of them returns.

        Args:
            path: a folder to import from, before all others.
            ranks: 0 is a process that no launcher has started.
        """
        async with self.free:
            store, environments = rendezvous(ranks) if ranks else (None, [{}])
            calls = [
                Call(
                    function,
                    arguments,
                    self.folder / f"{next(self.numbers):06}",
                    cwd or self.folder,
                    path,
                    self.environment | own,
                    patience_s,
                )
                for own in environments
            ]
            counters = [self.used[name] for name in (STAGE.get(), PART.get()) if name]
            for used in counters:
                used.forks += len(calls)
            ends = await run_together(calls)
            for used in counters:
                used.cpu_seconds += sum(end.cpu_seconds for end in ends)
            del store  # they have ended
            return [end.returned for end in ends]


def rendezvous(ranks: int) -> tuple[TCPStore, list[dict[str, str]]]:
    """A store where processes meet, to be kept until they end, and what torchrun tells each of them.

    The store has a port before they start, so they race for none.
    """
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


def settle(folder: Path, out: Path, err: Path) -> None:
    """Make a fork a process of its own, in a folder; what it prints goes to the end of files."""
    os.setsid()  # so that what it starts can be ended with it
    for number, path in ((1, out), (2, err)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), number)
    os.chdir(folder)


@dataclass(frozen=True)
class End:
    """What a fork leaves."""

    returned: Any
    cpu_seconds: float  # its own, and those of the processes that it waited for


@dataclass(frozen=True)
class Call:
    """One call in one fork; beside `note` lie its log and its result."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    note: Path
    cwd: Path
    path: Path | None
    environment: dict[str, str]
    patience_s: float

    @property
    def log(self) -> Path:
        return self.note.with_suffix(".log")

    @property
    def result(self) -> Path:
        return self.note.with_suffix(".result")

    def __call__(self) -> None:
        """What happens in the fork."""
        settle(self.cwd, self.log, self.log)
        faulthandler.dump_traceback_later(self.patience_s * 0.9, file=2)
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            del os.environ[name]
        os.environ.update(self.environment)
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(self.note.parent / "bytecode")
        if self.path:
            sys.path.insert(0, str(self.path))
        if "tests.matrix.preload" not in sys.modules:
            raise RuntimeError("The server could not import what it is to share; see its own message.")
        warnings.filterwarnings("error", category=DeprecationWarning, module="my_project")
        warnings.filterwarnings("error", category=FutureWarning, module="my_project")
        try:
            result = self.function(*self.arguments)
        except SystemExit as end:
            if end.code:
                raise
            result = None
        sys.stdout.flush()
        temporary = self.result.with_suffix(".tmp")
        times = os.times()
        cpu_seconds = times.user + times.system + times.children_user + times.children_system
        temporary.write_bytes(pickle.dumps(End(result, cpu_seconds)))
        temporary.replace(self.result)

    def end_of_log(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-END_OF_LOG:]) or "it printed nothing"


async def run_together(calls: list[Call]) -> list[End]:
    """Run calls side by side; when one fails or takes too long, end them all."""
    processes = [SERVER.Process(target=call) for call in calls]
    for process in processes:
        process.start()
    ends = [asyncio.ensure_future(ended(process.sentinel)) for process in processes]
    deadline = asyncio.get_running_loop().time() + calls[0].patience_s
    try:
        pending = set(ends)
        while pending:
            left = deadline - asyncio.get_running_loop().time()
            done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise RunError(f"it hung: ended after {calls[0].patience_s:.0f} s\n{logs(calls)}")
            for process in processes:
                process.join(0)
            if any(process.exitcode for process in processes):
                raise RunError(f"exit codes {[process.exitcode for process in processes]}\n{logs(calls)}")
    finally:
        for end in ends:
            end.cancel()
        for process in processes:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
    if missing := [call for call in calls if not call.result.exists()]:
        raise RunError(f"{len(missing)} processes ended with code 0 before they were done\n{logs(calls)}")
    return [pickle.loads(call.result.read_bytes()) for call in calls]


def logs(calls: list[Call]) -> str:
    if len(calls) == 1:
        return calls[0].end_of_log()
    return "\n".join(f"--- process {rank}\n{call.end_of_log()}" for rank, call in enumerate(calls))


async def ended(sentinel: int) -> None:
    """Wait until a process has ended."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sentinel, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(sentinel)


def describe(error: BaseException) -> str:
    return str(error) if isinstance(error, RunError) else "".join(traceback.format_exception(error))
