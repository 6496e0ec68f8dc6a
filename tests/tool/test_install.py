"""A project with everything installs into a fresh environment; there every command of its README works."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Say
from tests.support.projects import SOAK, by_framework
from tests.support.releases import CONSTRAINTS, Environment, clean_settings, commit, free_ports, git, run

# A fresh environment is fetched and unpacked, and a whole README takes ten minutes.
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not SOAK, reason="make soak"),
    pytest.mark.timeout(3000),
]

EVERYTHING = (
    "--fsdp --precision bf16 --loggers tensorboard,mlflow,wandb --hpo optuna "
    "--serving fastapi --monitoring prometheus --docker"
)
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_HERE = {"docker ": "a Docker engine", "wandb sync ": "an account of Weights & Biases"}
# Shorter than in the README: two trials instead of twenty, steps instead of epochs.
SHORT = {
    "my_digits.tune": "--trials 2 --max_steps 20",
    "METRICS_": "--max_steps 20",
    "PUSHGATEWAY_URL": "--max_steps 20",
    "--node-rank": "--out_dir runs/nodes",
}


@dataclass(frozen=True)
class Installed:
    """A project and the environment that it is installed in."""

    folder: Path
    environment: Path
    tool: Environment  # where mlscaffold and Copier are

    @property
    def settings(self) -> dict[str, str]:
        scripts = [self.environment / "bin", self.tool.scripts]
        return clean_settings() | {
            "PATH": os.pathsep.join([*map(str, scripts), os.environ["PATH"]]),
            "VIRTUAL_ENV": str(self.environment),
            "PIP_CONSTRAINT": str(CONSTRAINTS),
            "PIP_BUILD_CONSTRAINT": str(CONSTRAINTS),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }

    def run(self, command: str) -> str:
        """Run a command in the project's folder, in its environment; return what it prints."""
        return run("bash", "-euc", command, cwd=self.folder, settings=self.settings)

    @contextmanager
    def start(self, command: str) -> Iterator["subprocess.Popen[str]"]:
        """Start a command that goes on; at the end nothing of it is left."""
        process = subprocess.Popen(
            ["bash", "-euc", f"exec {command}"],
            cwd=self.folder, env=self.settings, start_new_session=True, encoding="utf-8",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@by_framework()
def test_every_command_of_its_readme_works_in_the_order_in_which_it_stands(
    framework: str, old: Environment, tmp_path: Path, say: Say
) -> None:
    ci = {"lightning": "github", "ignite": "gitlab"}[framework]
    words = f"mlscaffold new my-digits --framework {framework} {EVERYTHING} --ci {ci} --yes"
    old.run(*words.split(), cwd=tmp_path)
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    project = Installed(tmp_path / "my-digits", tmp_path / "venv", old)

    project.run("python -m pip install -e '.[dev]' && pytest -q")  # what a user types first
    assert "No broken requirements found" in project.run("python -m pip check")
    assert git(project.folder, "status", "--porcelain") == ""
    write_inputs(project.folder)
    with ExitStack() as stack:
        reader = Reader(project, stack)
        for command in commands(project.folder / "README.md"):
            reader.follow(command)
            if git(project.folder, "status", "--porcelain"):
                commit(project.folder)  # an update wants a clean tree

    assert verbs(project.folder) <= reader.verbs
    assert reader.servers == ["mlflow", "my_digits.serve"]
    say(f"{framework}: {reader.count} commands of a README run; not run: {reader.left_out}")


@dataclass
class Reader:
    """Does what a README says, as a user would."""

    project: Installed
    stack: ExitStack
    port: int = field(default_factory=lambda: free_ports(1)[0])
    nodes: list["subprocess.Popen[str]"] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)
    verbs: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def follow(self, command: str) -> None:
        """Run a command; one that goes on is started and asked, or waited for with its other nodes."""
        for words, needs in NOT_HERE.items():
            if command.startswith(words):
                self.left_out[command] = f"needs {needs}"
                return
        self.count += 1
        self.verbs |= set(re.findall(r"my_digits\.(\w+)", command))
        command = command.replace("8000", str(self.port))  # others may serve there, too
        command = command.replace("node0", "127.0.0.1").replace("--nproc-per-node 8", "--nproc-per-node 1")
        command = " ".join([command, *(more for words, more in SHORT.items() if words in command)])
        if "--node-rank" in command:
            self.join(command)
        elif "my_digits.serve" in command:
            self.serve(command, f"http://127.0.0.1:{self.port}/readyz")
        elif command.startswith("mlflow ui"):
            self.serve(f"{command} --port {free_ports(1)[0]}", "")
        else:
            said = self.project.run(command)
            assert '"predictions"' in said or "/predict" not in command

    def join(self, command: str) -> None:
        """Start a node; with the second they train."""
        self.nodes.append(self.stack.enter_context(self.project.start(command)))
        if len(self.nodes) == 2:
            for node in self.nodes:
                said, _ = node.communicate(timeout=300)
                assert node.returncode == 0, said

    def serve(self, command: str, address: str) -> None:
        """Start a service and wait until it answers; the project's goes on, and drains in the end."""
        server = self.stack.enter_context(self.project.start(command))
        address = address or f"http://127.0.0.1:{command.split()[-1]}/"
        deadline = time.monotonic() + 180
        while not answers(address):
            assert time.monotonic() < deadline, command
            if server.poll() is not None:
                pytest.fail(f"{command} has ended: {server.communicate()[0]}")
            time.sleep(0.3)
        self.servers.append("mlflow" if "mlflow" in command else "my_digits.serve")


def answers(address: str) -> bool:
    with suppress(HTTPError, OSError), urlopen(address, timeout=5):
        return True
    return False


def commands(readme: Path) -> Iterator[str]:
    """The commands of all console blocks; one that goes on in the next line is one."""
    for block in BLOCK.findall(readme.read_text("utf-8")):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip())


def verbs(folder: Path) -> set[str]:
    """The modules that a user can run."""
    modules = (folder / "src/my_digits").glob("*.py")
    return {path.stem for path in modules if '__name__ == "__main__"' in path.read_text("utf-8")}


def write_inputs(folder: Path) -> None:
    """The files for which the README has names."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 8), dtype=np.uint8)
    np.save(folder / "ARRAY.npy", pixels)
    (folder / "FOLDER").mkdir()
    for path in ("IMAGE.png", "FOLDER/1.png"):
        Image.fromarray(pixels[0]).save(folder / path)
