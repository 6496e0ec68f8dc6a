"""Pages of the documentation, followed as a user does: commands run, files written, changes made."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from tests.support import durations, forks
from tests.support.projects import Project
from tests.support.releases import ROOT, free_ports

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIES = re.compile(r"\d+\.\d+|\bepoch +\d+|\bstep +\d+")  # in what is printed, from machine to machine
READY_S = 300  # for a service, on a busy machine

Block = tuple[str, str]  # the language, and the text


def section(page: str, title: str) -> list[Block]:
    """The blocks below a heading, up to the next one of its rank."""
    text = f"\n{(ROOT / 'docs' / page).read_text()}\n## "
    begin = text.index(f"\n## {title}\n") + 4
    return BLOCK.findall(text[begin : text.index("\n## ", begin)])


@dataclass
class Reader:
    """Does what blocks say, in a folder.

    Programs are forks; with `cold` they are started as users start them. `framework` takes the place of what
    `mlscaffold new` is given. What stands under `other` takes the place of words in commands.
    """

    folder: Path
    framework: str
    cold: bool = False
    other: dict[str, str] = field(default_factory=dict)
    said: str = ""  # by the commands of the last block
    activate: str = ""
    count: int = 0

    def __post_init__(self) -> None:
        self.port, self.stack = str(free_ports(1)[0]), ExitStack()
        self.programs = self.folder / "programs"
        self.programs.mkdir()
        python = sys.executable if self.cold else str(forks.python())
        for name, command in {
            "mlscaffold": f"{sys.executable} -m mlscaffold",
            "python": python,
            "pytest": f"{python} -m pytest -p no:cacheprovider",
            "torchrun": f"{python} -m torch.distributed.run",
        }.items():
            path = self.programs / name
            path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            path.chmod(0o755)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stack.close()

    @property
    def settings(self) -> dict[str, str]:
        """The environment. What pip installs is here, so that it asks no index."""
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PYTHONPATH": ""}
        source = {} if self.cold else {"PYTHONPATH": str(self.folder / "src")}
        return Project(self.folder, "-").settings | own | source

    def follow(self, blocks: list[Block]) -> None:
        for kind, text in blocks:
            if kind == "console":
                lines = text.replace("\\\n", " ").splitlines()
                self.said = "".join([self.run(line) for line in lines])
            elif kind == "python":
                name = text.splitlines()[0].removeprefix("# ")
                (self.folder / name).write_text(text)
            elif kind == "diff":
                self.change(text)
            elif kind == "text":
                self.compare(text)

    def run(self, line: str) -> str:
        self.count += 1
        for words, others in self.other.items():
            line = line.replace(words, others)
        if line.startswith("cd "):
            self.folder /= line.removeprefix("cd ")
            return ""
        if line.startswith(("python -m venv", "pip install")) and not self.cold:
            return ""  # forks have it all
        if line.startswith("mlscaffold new"):
            line += f" --framework {self.framework}"  # the last one counts
        line = line.replace("8000", self.port)
        if ".serve " in line:
            return self.serve(line)
        done = subprocess.run(
            ["bash", "-euc", self.activate + line],
            cwd=self.folder,
            env=self.settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if "venv" in line:
            self.lend_libraries()
            self.activate = ". .venv/bin/activate; "
        return done.stdout

    def lend_libraries(self) -> None:
        """Let the new environment see what is installed here, with the setuptools that torch needs."""
        [site] = (self.folder / ".venv").glob("lib/*/site-packages")
        for own in site.glob("setuptools*"):  # of Python 3.11, too old
            shutil.rmtree(own)
        (site / "lent.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))

    def serve(self, line: str) -> str:
        """Start a service and wait until it is ready; it runs until the reader has done."""
        log = self.folder / "service.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-euc", f"{self.activate} exec {line}"],
                cwd=self.folder,
                env=self.settings,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.stack.callback(end, process)
        with durations.timed("services started"):
            deadline = time.monotonic() + READY_S
            while not answers(f"http://127.0.0.1:{self.port}/readyz"):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, line
                time.sleep(0.1)
        return ""

    def change(self, diff: str) -> None:
        """Make a change to a file: lines with a `-` go, those with a `+` come."""
        name, *lines = diff.splitlines()
        path = self.folder / name.removeprefix("--- ")
        before = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
        after = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
        assert path.read_text().count(before) == 1, f"{name} has not once:\n{before}"
        path.write_text(path.read_text().replace(before, after))

    def compare(self, text: str) -> None:
        """See whether what the page shows was printed, but for what varies."""
        printed = [VARIES.sub("~", line) for line in self.said.splitlines()]
        for line in text.splitlines():
            assert line == "..." or VARIES.sub("~", line) in printed, f"{line}\nis not in\n{self.said}"


def end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, SIGKILL)
    process.wait()


def answers(address: str) -> bool:
    with suppress(URLError, OSError), urlopen(address, timeout=5):
        return True
    return False
