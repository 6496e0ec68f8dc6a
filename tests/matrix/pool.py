"""Runs functions in forks of a server that has imported everything, a few at a time, each within a bound."""

import asyncio
import faulthandler
import itertools
import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import forks
from tests.support.forkserver import LABEL

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

STAGE: ContextVar[str] = ContextVar("STAGE", default="")  # whatever is called belongs to it
PART: ContextVar[str] = ContextVar("PART", default="")  # of the stage, the same in all of them


class RunError(Exception):
    """A fork that failed or hung; the text ends with the end of its log."""


@dataclass
class Pool:
    """Runs functions in forks, as many at once as there are slots."""

    folder: Path  # of logs and results
    slots: int
    device: str = "cpu"
    free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.free = asyncio.Semaphore(self.slots)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.numbers = itertools.count()
        self.environment = {name: v for name, v in os.environ.items() if not name.startswith(FOREIGN)}
        self.environment |= {"OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "110"}
        self.environment["PYTHONPYCACHEPREFIX"] = str(self.folder / "bytecode")
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
            ranks: 0 is a process that no launcher has started. A project for Slurm is told of the others in
                Slurm's words, any other one in torchrun's.
        """
        async with self.free:
            if ranks and path and [*path.glob("*/distributed/slurm.py")]:
                store, environments = None, forks.step_of_slurm(ranks)
            else:
                store, environments = forks.rendezvous(ranks) if ranks else (None, [{}])
            calls = [
                Call(
                    function,
                    arguments,
                    self.folder / f"{next(self.numbers):06}",
                    cwd or self.folder,
                    path,
                    self.environment | own | {LABEL: self.label()},
                    patience_s,
                )
                for own in environments
            ]
            returned = await run_together(calls)
            del store  # they have ended
            return returned

    def label(self) -> str:
        """The test that a fork belongs to, if any, and what of the matrix it is part of."""
        return f"{os.environ.get(LABEL, '')} | {'; '.join([str(id(self)), STAGE.get(), PART.get()])}"

    def used(self, name: str) -> tuple[int, float]:
        """How many forks a stage, or a part of all stages, has started, and how long they computed."""
        found = [
            used for label, used in forks.used().items() if name in label.rpartition(" | ")[2].split("; ")
        ]
        return sum(number for number, _ in found), sum(seconds for _, seconds in found)


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
        faulthandler.dump_traceback_later(self.patience_s * 0.9, file=2)
        if self.path:
            sys.path.insert(0, str(self.path))
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
        temporary.write_bytes(pickle.dumps(result))
        temporary.replace(self.result)

    def start(self) -> forks.Fork:
        """Write down what is to be called, and start a fork that does it."""
        program = self.note.with_suffix(".call")
        program.write_bytes(pickle.dumps(self))
        arguments = ("-m", "tests.matrix.called", str(program))
        return forks.start(arguments, self.cwd, self.environment, self.log, self.log)

    def end_of_log(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-END_OF_LOG:]) or "it printed nothing"


async def run_together(calls: list[Call]) -> list[Any]:
    """Run calls side by side; when one fails or takes too long, end them all."""
    running = [call.start() for call in calls]
    try:
        await forks.together(running, calls[0].patience_s)
    except TimeoutError:
        raise RunError(f"it hung: ended after {calls[0].patience_s:.0f} s\n{logs(calls)}") from None
    if any(fork.returncode for fork in running):
        raise RunError(f"exit codes {[fork.returncode for fork in running]}\n{logs(calls)}")
    if missing := [call for call in calls if not call.result.exists()]:
        raise RunError(f"{len(missing)} processes ended with code 0 before they were done\n{logs(calls)}")
    return [pickle.loads(call.result.read_bytes()) for call in calls]


def logs(calls: list[Call]) -> str:
    if len(calls) == 1:
        return calls[0].end_of_log()
    return "\n".join(f"--- process {rank}\n{call.end_of_log()}" for rank, call in enumerate(calls))


def describe(error: BaseException) -> str:
    return str(error) if isinstance(error, RunError) else "".join(traceback.format_exception(error))
