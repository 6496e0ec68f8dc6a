"""Run Python programs in forks of a server that has imported what they import, which takes seconds each time.

They are processes with a group, signals and exit codes of their own. Other than a program that a user starts
they end without taking the interpreter down, and do not say what an import says.
"""

import os
import runpy
import signal
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

from tests.matrix.pool import SERVER, rendezvous, settle


@dataclass(frozen=True)
class Program:
    """`python *arguments` in a folder, with these environment variables; what it prints goes to files."""

    arguments: tuple[str, ...]
    folder: Path
    settings: dict[str, str]
    out: Path
    err: Path

    def __call__(self) -> None:
        """What happens in the fork."""
        settle(self.folder, self.out, self.err)
        os.environ.clear()
        os.environ.update(self.settings)
        sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
        sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        first, *others = self.arguments
        if first == "-m":
            sys.argv = others
            sys.path.insert(0, str(self.folder))
            runpy.run_module(others[0], run_name="__main__", alter_sys=True)
        elif first == "-c":
            sys.argv = ["-c", *others[1:]]
            sys.modules["__main__"] = main = types.ModuleType("__main__")
            exec(compile(others[0], "<string>", "exec"), main.__dict__)
        else:
            sys.argv = list(self.arguments)
            sys.path.insert(0, str(Path(first).parent))
            runpy.run_path(first, run_name="__main__")


def run(
    arguments: Sequence[str], folder: Path, settings: dict[str, str], processes: int, timeout_s: float
) -> CompletedProcess[str]:
    """Run a program, in several processes as torchrun would; when one fails, the others are killed."""
    store, environments = rendezvous(processes) if processes > 1 else (None, [{}])
    with tempfile.TemporaryDirectory() as notes:
        out, err = Path(notes, "out"), Path(notes, "err")
        programs = [Program(tuple(arguments), folder, settings | own, out, err) for own in environments]
        running = [SERVER.Process(target=program) for program in programs]
        for process in running:
            process.start()
        deadline = time.monotonic() + timeout_s
        try:
            while None in (codes := [process.exitcode for process in running]) and not any(codes):
                left = [process.sentinel for process in running if process.exitcode is None]
                if left and not wait(left, deadline - time.monotonic()):
                    raise TimeoutExpired(arguments, timeout_s, out.read_text(), err.read_text())
        finally:
            for process in running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid or 0, signal.SIGKILL)
                process.join()
        del store  # they have ended
        return CompletedProcess(arguments, next(filter(None, codes), 0), out.read_text(), err.read_text())
