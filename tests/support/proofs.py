"""What has passed is not run again while nothing has changed that it reads. A plugin of pytest.

A proof is kept in `.proofs/`, under the hash of what the test is: its name, the code that it imports from
`tests`, the machine, the installed packages. It names what the test read when it passed, each with a hash:

- files and folders of this repository that the process of the test opened,
- projects that it rendered, by their answers: the files that come out,
- the tool (its code, templates and all that a wheel is made of), if the test imports it or starts a program
  that may be it.

It holds while all of these are the same. A proof that is damaged holds nothing. `FRESH=1` looks at none.
A test that failed, was skipped or repeats something for `make soak` leaves no proof.
"""

import ast
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import pytest

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".proofs"
NEW = "MLSCAFFOLD_TEST_PROOFS"  # an environment variable: where proofs of this run lie until it has ended
KEPT_DAYS = 30
OTHERS = {".git", ".proofs", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
TOOL = """
    src templates tools examples copier.yml constraints.txt pyproject.toml README.md CHANGELOG.md LICENSE
    Makefile .ci
"""
TYPES = {"Answer", "Answers"}  # of `mlscaffold`, which compute nothing
WITHOUT_TOOL = {  # import it, and note what they read of it
    "tests.conftest",
    "tests.matrix.plan",
    "tests.support.projects",
}
PRELOADED = {
    "tests.support.preload",
    "tests.support.preload_tool",
}  # by servers of forks, and change no result
PROGRAMS = ("git", "redis-server", "prometheus", "fish", "zsh", "bash", "ip", "unshare", "chromium")
STARTS = {"subprocess.Popen", "os.posix_spawn", "os.forkpty", "os.fork", "os.system"}

Input = tuple[str, str]  # a kind and a name
Inputs = dict[str, dict[str, str]]  # hashes by name, by kind
P = ParamSpec("P")
T = TypeVar("T")


class Recorder:
    """What is read now: by the innermost of what records."""

    def __init__(self) -> None:
        self.layers: list[set[Input]] = []
        self.apart = 0

    def note(self, kind: str, name: str = "") -> None:
        if self.layers:
            self.layers[-1].add((kind, name))

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.layers:
            return
        if event in ("open", "os.listdir", "os.scandir"):
            writes = event == "open" and (arguments[2] or 0) & os.O_ACCMODE == os.O_WRONLY
            if not writes and (name := within(arguments[0])):
                self.note("file" if event == "open" else "folder", name)
        elif event in STARTS and not self.apart:
            self.note("tool")


RECORDER = Recorder()
note = RECORDER.note


def within(path: object) -> str:
    """A path from the root of the repository, or nothing where it leads elsewhere."""
    if not isinstance(path, str | os.PathLike):
        return ""
    text = os.path.abspath(path)  # noqa: PTH100 (called for each file that is opened)
    if not text.startswith(f"{ROOT}{os.sep}"):
        return ""
    name = text[len(str(ROOT)) + 1 :]
    return "" if OTHERS.intersection(Path(name).parts) else name


@contextmanager
def recording() -> Iterator[set[Input]]:
    """What is read meanwhile; whoever records around this does not see it."""
    seen: set[Input] = set()
    RECORDER.layers.append(seen)
    try:
        yield seen
    finally:
        RECORDER.layers.pop()


@contextmanager
def apart() -> Iterator[None]:
    """What is started meanwhile knows nothing of the tool: it is a project, a server or a checker."""
    RECORDER.apart += 1
    try:
        yield
    finally:
        RECORDER.apart -= 1


def once(function: Callable[P, T]) -> Callable[P, T]:
    """Remember what a function returned, and what it read: whoever calls it later has read that as well."""
    known: dict[str, tuple[T, set[Input]]] = {}

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        key = repr((arguments, named))
        if key not in known:
            with recording() as seen:
                value = function(*arguments, **named)
            known[key] = value, seen
        value, seen = known[key]
        for kind, name in seen:
            note(kind, name)
        return value

    return call


def once_for_all(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first of all processes of a run of pytest makes; others wait, and only read it."""
    own = factory.getbasetemp()
    folder = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / name
    folder.mkdir(exist_ok=True)
    told = folder / "read.json"  # what was read while it was made
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            with recording() as seen:
                make(folder)
            told.write_text(json.dumps(sorted(seen)), encoding="utf-8")
    for kind, what in json.loads(told.read_text(encoding="utf-8")):
        note(kind, what)
    return folder


def sha256(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def hash_of_file(name: str) -> str:
    path = ROOT / name
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"


def hash_of_folder(name: str) -> str:
    path = ROOT / name
    return sha256(*sorted(os.listdir(path))) if path.is_dir() else "no folder"  # noqa: PTH208 (names alone)


@cache
def hash_of_tool(_: str) -> str:
    files = sorted(file for part in TOOL.split() for file in walk(ROOT / part))
    return sha256(*((path.relative_to(ROOT), hash_of_file(str(path))) for path in files))


def walk(place: Path) -> Iterator[Path]:
    """A file, or those in a folder and below."""
    if place.is_file():
        yield place
    yield from (path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


@cache
def hash_of_project(answers: str) -> str:
    from tests.support.projects import rendered

    try:
        files = rendered(json.loads(answers)).files
        commit = re.compile(r"^_commit: .*\n", re.MULTILINE)  # is there while no template has changed
        return sha256(*sorted((name, commit.sub("", text)) for name, text in files.items()))
    except Exception as error:  # whatever it is, the test shall meet it
        return f"{error!r} at {time.time()}"


@cache
def hash_of_projects(_: str) -> str:
    """Of what makes all projects there are, which is computed faster than they are."""
    files = [*walk(ROOT / "templates"), ROOT / "copier.yml", *modules_of("mlscaffold.rendering.render")]
    return sha256(*((path.relative_to(ROOT), hash_of_file(str(path))) for path in sorted(files)))


def modules_of(module: str) -> set[Path]:
    """The files of a module of the tool and of all that it imports of it."""
    seen: dict[str, Path] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        place = ROOT.joinpath("src", *name.split("."))
        path = next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)
        if path and name not in seen:
            seen[name] = path
            todo += [name.rpartition(".")[0], *imports_of(path)]
    return {*seen.values()}


def imports_of(path: Path) -> Iterator[str]:
    """What a module imports, at once or later; of `from a import b` also `a.b`, which may be a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


HASHES: dict[str, Callable[[str], str]] = {
    "file": hash_of_file,
    "folder": hash_of_folder,
    "tool": hash_of_tool,
    "project": hash_of_project,
    "projects": hash_of_projects,
}


def hashes(inputs: Iterable[Input]) -> Inputs:
    found: Inputs = {}
    for kind, name in sorted(inputs):
        found.setdefault(kind, {})[name] = HASHES[kind](name)
    return found


@cache
def machine() -> str:
    """The machine, its packages and programs, and the settings that tests look at."""
    cpu = Path("/proc/cpuinfo")
    flags = re.search(r"^(flags|Features)\s*:.*$", cpu.read_text(), re.MULTILINE) if cpu.exists() else None
    packages = sorted((d.metadata["Name"] or "", d.version) for d in distributions())
    programs = [(name, shutil.which(name)) for name in PROGRAMS]
    sizes = [(name, path, Path(path).stat().st_size) for name, path in programs if path]
    settings = os.environ.get("MLSCAFFOLD_SOAK", ""), hash_of_file("constraints.txt")
    of_python = sys.version, sys.prefix, platform.platform(), os.cpu_count()
    return sha256(of_python, flags and flags[0], packages, sizes, settings)


@cache
def source(module: str) -> tuple[Path, str] | None:
    base = ROOT.joinpath(*module.split("."))
    path = next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)
    return (path, path.read_text(encoding="utf-8")) if path else None


@cache
def imports(module: str) -> tuple[frozenset[str], bool]:
    """The modules of `tests` that a module names anywhere, and whether it imports the tool."""
    found = source(module)
    if found is None:
        return frozenset(), False
    text, tool = found[1], False
    named = {name.replace("/", ".") for name in re.findall(r"\btests[./](?:\w+[./])*\w+", text)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in TYPES]
        else:
            continue
        tool = tool or any(name.split(".")[0] == "mlscaffold" for name in names)
        named |= {name for name in names if name.startswith("tests.")}
    parents = {".".join(name.split(".")[:length]) for name in named for length in range(1, 6)}
    return frozenset(name for name in parents if source(name)), tool and module not in WITHOUT_TOOL


@cache
def code_of(module: str) -> tuple[str, bool]:
    """A hash of all code of `tests` that a test module reads, and whether that imports the tool."""
    seen: dict[str, str] = {}
    todo, tool = [module, "tests.conftest"], False
    while todo:
        name = todo.pop()
        if name not in seen and (found := source(name)):
            seen[name] = found[1]
            more, imports_tool = imports(name)
            if name not in PRELOADED:
                tool = tool or imports_tool
                todo += more
    return sha256(*sorted(seen.items()), hash_of_file("copier.yml")), tool


@cache
def kept() -> dict[str, list[Path]]:
    """The files of all proofs from earlier runs, by their keys; those of this run are not among them."""
    found: dict[str, list[Path]] = {}
    for path in PLACE.glob("*.json"):
        found.setdefault(path.name.partition("-")[0], []).append(path)
    return found


class Proof:
    """The proof of something that a module of `tests` has to show; it may be there or not."""

    def __init__(self, name: str, module: str) -> None:
        code, self.imports_tool = code_of(module)
        self.name, self.key = name, sha256(name, code, machine())

    def holds(self) -> bool:
        """Whether it was shown when all that was read was as it is now."""
        return any(self._holds(path) for path in kept().get(self.key, []))

    def _holds(self, path: Path) -> bool:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            inputs = content["inputs"]
            if content == self._sealed(inputs):
                return all(
                    HASHES[kind](name) == told for kind in inputs for name, told in inputs[kind].items()
                )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        path.unlink(missing_ok=True)  # it is damaged
        return False

    def _sealed(self, inputs: Inputs) -> dict[str, object]:
        seal = sha256(self.key, json.dumps(inputs, sort_keys=True))
        return {"shows": self.name, "inputs": inputs, "seal": seal}

    def keep(self, inputs: set[Input], folder: Path) -> None:
        """Write it down, with hashes of what was read."""
        found = hashes(inputs | ({("tool", "")} if self.imports_tool else set()))
        temporary = folder / f"{self.key}.{os.getpid()}"
        temporary.write_text(json.dumps(self._sealed(found), indent=1), encoding="utf-8")
        temporary.rename(folder / f"{self.key}-{sha256(found)[:16]}.json")


def of_test(item: pytest.Item) -> Proof:
    return Proof(item.nodeid, item.nodeid.partition(".py::")[0].replace("/", "."))


def stamp() -> int:
    """Changes when anybody changes a file of the repository; asked after each test, so it takes 3 ms."""
    parts = (ROOT / name for name in [*TOOL.split(), "tests", "docs", "benchmarks", "CONTRIBUTING.md"])
    return hash(tuple(sorted(state for part in parts for state in states(part))))


def states(place: str | Path) -> Iterator[tuple[str, int, int]]:
    """The name, time and size of a file, or of those in a folder and below."""
    if os.path.isdir(place):  # noqa: PTH112 (called for each folder after each test)
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from states(entry.path) if entry.name != "__pycache__" else ()
                elif entry.is_file():
                    stat = entry.stat()
                    yield entry.path, stat.st_mtime_ns, stat.st_size
    elif os.path.exists(place):  # noqa: PTH110
        stat = os.stat(place)  # noqa: PTH116
        yield str(place), stat.st_mtime_ns, stat.st_size


class Plugin:
    """Leaves out what is proven, and keeps proofs of what passes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stamp = folder, stamp()
        self.of_fixtures: dict[int, set[Input]] = {}
        self.passed: set[str] = set()
        self.kept = 0
        sys.addaudithook(RECORDER.audit)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if os.environ.get("FRESH"):
            return
        kept = [item for item in items if of_test(item).holds()]
        self.kept = len(kept)
        if kept:
            items[:] = [item for item in items if item not in set(kept)]
            config.hook.pytest_deselected(items=kept)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        with recording() as seen:
            result = yield
        self.of_fixtures.setdefault(id(fixturedef), set()).update(seen)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.passed.clear()
        with recording() as seen:
            result = yield
        if self.passed == {"setup", "call", "teardown"} and stamp() == self.stamp:
            definitions = cast("Any", item)._fixtureinfo.name2fixturedefs.values()
            fixtures = [self.of_fixtures.get(id(each), set()) for group in definitions for each in group]
            of_test(item).keep(seen.union(*fixtures), self.folder)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and not hasattr(report, "wasxfail"):
            self.passed.add(report.when or "")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if told := getattr(session.config, "workeroutput", None):
            told["kept"] = self.kept
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.kept:
            session.exitstatus = pytest.ExitCode.OK

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist has ended; each of them has left out the same."""
        self.kept = max(self.kept, getattr(node, "workeroutput", {}).get("kept", 0))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.kept:
            terminalreporter.write_line(f"{self.kept} tests were proven before, and nothing that they read")
            terminalreporter.write_line("has changed since (.proofs). FRESH=1 runs them too.")


def begin(config: pytest.Config) -> None:
    """Keep proofs in this process of pytest; the first one gathers those of all at the end."""
    if config.option.collectonly or os.environ.get("MLSCAFFOLD_SOAK"):
        return
    first = NEW not in os.environ
    if first:
        os.environ[NEW] = str(PLACE / f"new-{os.getpid()}")
    folder = Path(os.environ[NEW])
    folder.mkdir(parents=True, exist_ok=True)
    config.pluginmanager.register(Plugin(folder), "proofs")
    if first:
        config.add_cleanup(lambda: gather(folder))


def gather(folder: Path) -> None:
    """Let the proofs of a run be those of the next one; forget old ones."""
    os.environ.pop(NEW, None)
    for path in folder.glob("*.json"):
        path.replace(PLACE / path.name)
    shutil.rmtree(folder, ignore_errors=True)
    oldest = time.time() - KEPT_DAYS * 24 * 3600
    for path in PLACE.iterdir():
        if path.stat().st_mtime < oldest:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
