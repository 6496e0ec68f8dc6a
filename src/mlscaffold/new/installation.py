"""Install a new project and let it train for a moment, with the pip and uv settings of the caller."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from mlscaffold.errors import StoppedError, ToolError
from mlscaffold.system.processes import run_to_the_end


def install(project: Path) -> None:
    """Make the environment `.venv` of a project, by uv where it is on PATH, else by venv and pip."""
    for command in _install_commands():
        _run(command, project, "The project stands, but could not be installed")


def train(project: Path, package: str) -> None:
    """Run the short training of a project in the environment that `install` made."""
    arguments = ["-m", f"{package}.train", "--config", "configs/smoke.yaml", "--out_dir", "runs/smoke"]
    _run([*_python(), *arguments], project, "The project stands, but did not train")


def has_uv() -> bool:
    """Whether uv is on PATH, which then installs and runs projects."""
    return shutil.which("uv") is not None


def _install_commands() -> list[list[str]]:
    if has_uv():
        return [["uv", "sync", "--extra", "dev"]]
    return [[sys.executable, "-m", "venv", ".venv"], [*_python(), "-m", "pip", "install", "-e", ".[dev]"]]


def _python() -> list[str]:
    if has_uv():
        return ["uv", "run", "--no-sync", "python"]
    return [str(Path(".venv", "Scripts" if os.name == "nt" else "bin", "python"))]


def _run(command: list[str], folder: Path, failure: str) -> None:
    retry = f"To try again: cd {shlex.quote(str(folder))} && {shlex.join(command)}"
    try:
        # stdout is for the one JSON object of --json, so a program's words go to stderr.
        done = run_to_the_end(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        reason = f"{command[0]} ended with {done.returncode}" if done.returncode else ""
    except OSError as error:
        reason = f"{command[0]} cannot be run, {error.strerror}"
    except KeyboardInterrupt as error:
        raise StoppedError(f"{failure}: stopped.", retry) from error
    if reason:
        raise ToolError(f"{failure}: {reason}.", retry)
