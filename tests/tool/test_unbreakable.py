"""`mlscaffold new` is killed, raced, starved and given anything: a whole project is there, or nothing."""

import ast
import importlib
import os
import random
import shutil
import string
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlscaffold.catalogue.answers import gather
from mlscaffold.catalogue.questions import Answers
from mlscaffold.errors import MlscaffoldError
from mlscaffold.new.command import Wish, new
from mlscaffold.rendering.render import render
from mlscaffold.rendering.target import STAGING
from tests.conftest import Say
from tests.support.command import COMMAND, mlscaffold
from tests.support.projects import CATALOGUE, times
from tests.support.releases import clean_settings

WINDOW_S = 0.02  # about as long as writing takes
LOOK_S = 0.0005  # between two looks at whether it writes
BEFORE, WITHIN, AFTER = "before its first file", "between its first file and the rename", "after the rename"


def start(folder: Path, *flags: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*COMMAND, "new", "digits", *flags],
        cwd=folder,
        env=clean_settings() | {"PYTHONPATH": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def written(project: Path) -> dict[str, int]:
    return {
        path.relative_to(project).as_posix(): path.stat().st_size
        for path in project.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


EXPECTED = {name: len(file.content) for name, file in render({"project": "digits"}).items()}


def leftovers(folder: Path) -> set[Path]:
    return {path for path in folder.iterdir() if STAGING.fullmatch(path.name)}


def kill_one(folder: Path, moment: float, *flags: str) -> tuple[str, set[Path]]:
    """Kill a `new` some time after its temporary folder shows, or after its start where that is negative."""
    before = leftovers(folder)
    process = start(folder, *flags)
    if moment < 0:
        time.sleep(-moment)
    else:
        while process.poll() is None and not leftovers(folder) - before:
            time.sleep(LOOK_S)
        time.sleep(moment)
    process.kill()
    process.communicate()
    if (folder / "digits").exists():
        return AFTER, set()
    left = leftovers(folder) - before
    return WITHIN if left else BEFORE, left


@pytest.mark.soak
def test_whenever_it_is_killed_a_whole_project_is_there_or_none(tmp_path: Path, say: Say) -> None:
    """Most are killed from their first temporary folder on, where it matters; the others at any time."""
    chance = random.Random(0)
    seen: Counter[str] = Counter()
    depth: Counter[int] = Counter()
    for number in range(times(50, 1000)):
        moment = -chance.uniform(0, 0.3) if number % 5 == 0 else chance.uniform(0, WINDOW_S)
        phase, left = kill_one(tmp_path, moment, *(["--no-git"] if number % 2 else []))
        seen[phase] += 1
        for folder in left:
            depth[10 * len(written(folder)) // len(EXPECTED)] += 1
        if phase == AFTER:
            assert written(tmp_path / "digits") == EXPECTED
            shutil.rmtree(tmp_path / "digits")
    assert mlscaffold("new", "digits", "--no-git", cwd=tmp_path).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    say("\n".join(f"  {count:5}  killed {phase}" for phase, count in seen.items()))
    say("\n".join(f"  {count:5}  with {10 * tenth} % of the files" for tenth, count in sorted(depth.items())))
    assert seen[WITHIN] >= times(10, 300)


@pytest.mark.soak
def test_of_two_at_once_there_is_one_winner_each_time(tmp_path: Path) -> None:
    for number in range(times(10, 200)):
        folder = tmp_path / str(number)
        folder.mkdir()
        pair = [start(folder, "--no-git") for _ in range(2)]
        said = [process.communicate()[1].decode() for process in pair]
        assert sorted(process.returncode for process in pair) == [0, 1], said
        assert len("".join(said).splitlines()) == 1
        assert written(folder / "digits") == EXPECTED
        assert [path.name for path in folder.iterdir()] == ["digits"]


def test_folders_above_arrive_with_the_project_or_not_at_all(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "new", "a/b/digits"], cwd=tmp_path, env=clean_settings(), stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not leftovers(tmp_path):
        time.sleep(LOOK_S)
    process.kill()
    process.wait()
    assert not (tmp_path / "a").exists() or written(tmp_path / "a/b/digits")


def test_a_folder_that_someone_has_locked_is_written_all_the_same(tmp_path: Path) -> None:
    """As in `flock . mlscaffold new digits`."""
    fcntl = pytest.importorskip("fcntl")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert mlscaffold("new", "digits", "--no-git", cwd=tmp_path).code == 0
    os.close(descriptor)


def on_a_disk(options: str, command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a shell command in `disk`, a file system in memory that nobody else sees."""
    (folder / "disk").mkdir()
    script = f"mount -t tmpfs -o {options} tmpfs disk && cd disk && {command}; code=$?; ls -A; exit $code"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", script],
        cwd=folder, env=clean_settings(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system of one's own here: {done.stderr.strip()}")
    return done


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux")
@pytest.mark.parametrize(
    ("options", "before", "reason"),
    [
        ("size=40k", "true", "No space left on device"),
        ("nr_inodes=12", "true", "No space left on device"),
        ("size=1m", "mount -o remount,ro disk; cd ../disk", "is not writable|Read-only file system"),
    ],
)
def test_a_full_or_read_only_disk_is_told_in_a_line_and_left_as_it_was(
    tmp_path: Path, options: str, before: str, reason: str
) -> None:
    command = f"{before}; {' '.join(COMMAND)} new digits --no-git"
    done = on_a_disk(options, command.replace("remount,ro disk", "remount,ro ../disk"), tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done
    [line] = done.stderr.splitlines()
    assert any(words in line for words in reason.split("|")), line
    assert "Choose another place" in line


def test_a_standard_output_that_takes_nothing_gives_no_traceback(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "new", "digits", "--no-git"],
            cwd=tmp_path, env=clean_settings(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "mlscaffold: standard output cannot be written: No space left on device.\n"
    assert (tmp_path / "digits/pyproject.toml").is_file()


NAMES = st.one_of(
    st.text(max_size=80),
    st.text(string.ascii_letters + string.digits + "-_./\\ ~$", max_size=70),
    st.sampled_from(["torch", "con", "..", ".", "~", "a/../../b", "/etc/x", "-rf", "x\0y", "\ud800", "a\nb"]),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.dates()
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
QUESTIONS = st.sampled_from([question.name for question in CATALOGUE.questions]) | st.text(max_size=12)
ANSWERS = st.dictionaries(QUESTIONS, VALUES, max_size=5)
DOCUMENTS = st.binary(max_size=60) | st.text(max_size=60).map(
    lambda text: text.encode(errors="surrogatepass")
)
QUIET = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("answers") / "answers.yml"


@pytest.mark.soak
@settings(QUIET, max_examples=times(1000, 50_000))
@given(name=NAMES, package=NAMES, description=st.text(max_size=90))
def test_any_name_is_taken_or_refused_with_a_reason(name: str, package: str, description: str) -> None:
    for answers in ({"project": name}, {"package": package}, {"description": description}):
        try:
            gather(CATALOGUE, answers, None, None).check()
        except MlscaffoldError as error:
            refused = str(error)
            assert refused


@pytest.mark.soak
@settings(QUIET, max_examples=times(1000, 50_000))
@given(content=ANSWERS.map(lambda answers: yaml.dump(answers).encode()) | DOCUMENTS)
def test_any_answers_file_is_taken_or_refused_with_a_reason(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        given = gather(CATALOGUE, {}, file, None)
        given.check_each()
        given.check()
        CATALOGUE.resolve(given.answers)
    except MlscaffoldError as error:
        refused = str(error)
        assert refused


WATCHED: list[str] = []  # where something was written, while `watching`
_watching = False


PATHS = {  # how many arguments of an event are paths that it writes to
    "os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.chmod": 1, "os.truncate": 1,
    "os.rename": 2, "os.link": 2, "os.symlink": 2,
}  # fmt: skip


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        WATCHED.append(str(arguments[0]))
    WATCHED.extend(os.fsdecode(path) for path in arguments[: PATHS.get(event, 0)])


sys.addaudithook(_watch)


@contextmanager
def watching() -> Iterator[None]:
    global _watching
    WATCHED.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False


CHOICES = st.fixed_dictionaries(
    {},
    optional={
        question.name: st.sampled_from(question.values) for question in CATALOGUE.questions if question.values
    },
)
LIKELY = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}[A-Za-z0-9]\Z")


@pytest.mark.soak
@settings(QUIET, max_examples=times(300, 5000))
@given(dest=NAMES, name=LIKELY | NAMES, description=st.text(max_size=60), choices=CHOICES)
def test_whatever_is_typed_nothing_is_written_outside_and_what_is_made_is_python(
    tmp_path_factory: pytest.TempPathFactory, dest: str, name: str, description: str, choices: Answers
) -> None:
    box = tmp_path_factory.getbasetemp() / "box"
    box.mkdir(exist_ok=True)
    target = box / f"d{dest.replace('/', '').replace(os.sep, '')}"
    flags = {**choices, "project": name, **({"description": description} if len(description) % 2 else {})}
    try:
        with watching(), redirect_stdout(StringIO()):
            new(Wish(dest=target, git=False, yes=True), flags)
    except MlscaffoldError:
        assert not list(box.iterdir())
    else:
        check_python(target, imported=len(name) % times(5, 1) == 0)
        shutil.rmtree(target)
    assert not [path for path in WATCHED if not Path(path).is_relative_to(box)]


def check_python(project: Path, *, imported: bool) -> None:
    """Parse every file, and import every module of the package: that takes a tenth of a second."""
    tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    for path in project.rglob("*.py"):
        ast.parse(path.read_bytes())
    [package] = (project / "src").iterdir()
    assert package.name not in sys.modules
    if not imported:
        return
    sys.path.insert(0, str(project / "src"))
    importlib.invalidate_caches()
    try:
        for path in sorted(package.rglob("*.py")):
            name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            importlib.import_module(name.removesuffix(".__init__"))
    finally:
        sys.path.pop(0)
        for module in [module for module in sys.modules if module.partition(".")[0] == package.name]:
            del sys.modules[module]
        forget_metrics()


def forget_metrics() -> None:
    """Prometheus' registry, one for the process, takes a service's metrics only once."""
    if known := sys.modules.get("prometheus_client"):
        for collector in list(known.REGISTRY._collector_to_names):
            known.REGISTRY.unregister(collector)
