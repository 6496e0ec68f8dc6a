"""Generated projects: which there are, what they hold, and how a test runs them with its own interpreter."""

import fcntl
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle, product
from pathlib import Path

import pytest

from mlscaffold.catalogue.questions import Answer, Answers, read
from mlscaffold.rendering.render import render
from tests.support import durations, forks, proofs
from tests.support.releases import ROOT, clean_settings

CATALOGUE = read(ROOT)
FRAMEWORKS = [str(value) for value in CATALOGUE["framework"].values]
STRATEGIES = [str(value) for value in CATALOGUE["strategy"].values]
PARALLEL = [strategy for strategy in STRATEGIES if strategy != "single"]  # they train in several processes

GAN: Answers = {"task": "image-generation", "generator": "gan"}  # whose steps have two phases

SOAK = bool(os.environ.get("MLSCAFFOLD_SOAK"))  # `make soak` sets it

Files = dict[str, str]


def times(short: int, full: int) -> int:
    """How often a test does something: `short` as part of `make test`, `full` in `make soak`."""
    return full if SOAK else short


def by_framework(*rows: int) -> pytest.MarkDecorator:
    """Run a test for each framework; it shows these rows of the table of techniques in docs/coverage.md."""
    marked = [pytest.param(name, marks=[pytest.mark.row(row, name) for row in rows]) for name in FRAMEWORKS]
    return pytest.mark.parametrize("framework", marked)


def by_pair(*rows: int, alone: bool = False) -> pytest.MarkDecorator:
    """Run a test for each framework with each strategy of several processes, and show these rows with it.

    With one process as well, if `alone`. `make test` meets each framework and each strategy, `make soak` each
    pair.
    """
    met = {*zip(FRAMEWORKS, cycle(PARALLEL), strict=False), *zip(cycle(FRAMEWORKS), PARALLEL, strict=False)}
    pairs = []
    for framework, strategy in product(FRAMEWORKS, STRATEGIES if alone else PARALLEL):
        marks = [pytest.mark.row(row, framework) for row in rows]
        if strategy in PARALLEL and (framework, strategy) not in met:
            marks += [pytest.mark.soak, pytest.mark.skipif(not SOAK, reason="make soak")]
        pairs.append(pytest.param(framework, strategy, marks=marks))
    return pytest.mark.parametrize(("framework", "strategy"), pairs)


@dataclass(frozen=True, eq=False)
class Rendered:
    """A project in memory."""

    answers: dict[str, Answer]
    files: Files  # contents by posix path

    @property
    def sources(self) -> Files:
        """The modules below `src/`."""
        return {name: text for name, text in self.python.items() if name.startswith("src/")}

    @property
    def tests(self) -> Files:
        return {name: text for name, text in self.python.items() if name.startswith("tests/")}

    @property
    def python(self) -> Files:
        return {name: text for name, text in self.files.items() if name.endswith(".py")}

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.answers.items())


def offered() -> tuple[Rendered, ...]:
    """Every combination of the core, and a few that meet all other answers, rendered."""
    proofs.note("projects")
    return _offered()


@cache
def _offered() -> tuple[Rendered, ...]:
    """Rendered by the first of all processes of a run of pytest; others read what it found."""
    kept = forks.share() / "offered"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(_render_all()))
        found: tuple[Rendered, ...] = pickle.loads(kept.read_bytes())
        return found


def _render_all() -> tuple[Rendered, ...]:
    """All projects; equal texts are one object, so that each is kept, and its hash reckoned, once."""
    from tests.matrix.plan import legal  # which knows of a project what stands here

    texts: dict[str, str] = {}
    found = []
    with durations.timed("rendering every project"):
        for answers in legal(CATALOGUE):
            files = _rendered(answers).files
            shared = {texts.setdefault(name, name): texts.setdefault(t, t) for name, t in files.items()}
            found.append(Rendered(dict(answers), shared))
    return tuple(found)


def rendered(answers: Answers) -> Rendered:
    proofs.note("project", json.dumps(answers, sort_keys=True))
    return _rendered(answers)


def _rendered(answers: Answers) -> Rendered:
    with proofs.recording():  # of the templates, what comes out is all that is read
        files = {name: file.content.decode() for name, file in render(answers).items()}
    return Rendered(dict(answers), files)


def distinct() -> Iterator[tuple[str, str, Rendered]]:
    """Each different content of each file once: its path, the content, and the first project that has it."""
    seen = set()
    for project in offered():
        for name, content in project.files.items():
            if (name, content) not in seen:
                seen.add((name, content))
                yield name, content, project


@dataclass(frozen=True)
class Project:
    """A project on disk, not installed."""

    folder: Path
    package: str

    def start(
        self, *arguments: str | Path, processes: int = 1, timeout_s: float = 550, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Python in the project's folder on the CPU, in several processes through torchrun."""
        launcher = (
            ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
        )
        forks.expect_cold()
        with durations.timed("projects started cold"), proofs.apart():
            return subprocess.run(
                [sys.executable, *launcher, *arguments],
                cwd=self.folder,
                env={**self.settings, **settings},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                check=False,
                timeout=timeout_s,
            )

    def run(self, *arguments: str | Path, processes: int = 1) -> str:
        """Run Python as `start` does, expect success, and return what it prints to stdout."""
        return self._succeeded(self.start(*arguments, processes=processes))

    def run_fork(self, *arguments: str | Path, processes: int = 1, timeout_s: float = 550) -> str:
        """As `run`, but in forks: to see what a project computes, not how it starts."""
        return self._succeeded(self.start_fork(*arguments, processes=processes, timeout_s=timeout_s))

    def start_fork(
        self, *arguments: str | Path, processes: int = 1, timeout_s: float = 550
    ) -> subprocess.CompletedProcess[str]:
        """As `start`, but in forks, as `run_fork`."""
        words = [str(argument) for argument in arguments]
        with durations.timed("projects forked"):
            return forks.run(words, self.folder, self.settings, processes, timeout_s)

    @staticmethod
    def _succeeded(done: subprocess.CompletedProcess[str]) -> str:
        assert done.returncode == 0, f"{done.args} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables: the CPU gives the same numbers everywhere, and a test is not alone."""
        own = {"PYTHONPATH": str(self.folder / "src"), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        return clean_settings() | own | {"PYTHONDONTWRITEBYTECODE": "1", "TERM": "dumb", "COLUMNS": "110"}


def write(project: Rendered, folder: Path) -> Path:
    """Write the files of a project below a folder."""
    for name, content in project.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return folder


def tool(*command: str | Path, cwd: Path, text: str | None = None) -> str:
    """Run a checker that is installed beside this interpreter; return what it objects to, or nothing."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with durations.timed(str(command[0])), proofs.apart():
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=cwd,
            env=clean_settings() | {"PATH": path},
            input=text or "",
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    return f"{done.stdout}{done.stderr}" if done.returncode else ""
