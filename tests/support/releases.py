"""Copies of this repository, the releases and wheels made from them, and environments with such a wheel."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.support import proofs

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
NOTES = (
    "templates/project/NOTES.md"  # a file of our own, so that no change to the real templates matters here
)


@dataclass(frozen=True)
class Environment:
    """A virtual environment with mlscaffold, and a home without anybody's settings or caches."""

    folder: Path
    home: Path

    @property
    def python(self) -> Path:
        return self.scripts / "python"

    @property
    def scripts(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    def run(self, *command: str | Path, cwd: Path, code: int = 0) -> str:
        """Run a command as in an activated environment, without a terminal; return what it prints."""
        settings = clean_settings(self.home) | {"VIRTUAL_ENV": str(self.folder)}
        settings["PATH"] = f"{self.scripts}{os.pathsep}{settings['PATH']}"
        return run(*command, cwd=cwd, code=code, settings=settings)


def run(*command: str | Path, cwd: Path, code: int = 0, settings: dict[str, str] | None = None) -> str:
    """Run a command that ends with `code`, without a terminal; return what it prints on both streams."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean_settings() if settings is None else settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def clean_settings(home: Path | None = None) -> dict[str, str]:
    """This process's environment variables, with a git that knows its user and nothing else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTHON"))}
    person = {
        f"GIT_{role}_{what}": "tester" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    settings = kept | person | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    if home is not None:
        settings |= {"HOME": str(home), "USERPROFILE": str(home), "COPIER_CACHE_DIR": str(home / "copier")}
    return settings


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens at now."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [server.getsockname()[1] for server in servers]


def git(folder: Path, *arguments: str) -> str:
    return run("git", *arguments, cwd=folder).strip()


def commit(folder: Path, message: str = "Change") -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


APART = ("docs/", "tests/", "benchmarks/", ".ci/")  # no release is made of them


def copy_files(destination: Path, *, whole: bool = False) -> Path:
    """Copy the files that git tracks or would track, but for those that releases are not made of."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and (whole or not name.startswith(APART)):
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, destination / name)
    return destination


def copy_repository(destination: Path) -> Path:
    """Copy the files, without releases, into a repository of one commit."""
    copy_files(destination)
    for bundle in destination.rglob("*.bundle"):
        bundle.unlink()
    (destination / NOTES).write_text("first\nsecond\nthird\nfourth\nfifth\n", encoding="utf-8")
    (destination / "CHANGELOG.md").write_text(
        "## [0.2.0] - 2026-12-02\n\nB.\n\n## [0.1.0]\n\nA.\n", encoding="utf-8"
    )
    git(destination, "init", "--quiet", "--initial-branch=main")
    commit(destination, "Begin")
    return destination


def make_release(checkout: Path, version: str, code: int = 0) -> str:
    """Do what `make release` does; return what it says."""
    settings = clean_settings() | {"PYTHONPATH": str(checkout / "src")}
    return run(sys.executable, "tools/release.py", version, cwd=checkout, code=code, settings=settings)


def change_notes(checkout: Path) -> None:
    """Change one line of the template and commit it."""
    notes = checkout / NOTES
    notes.write_text(notes.read_text(encoding="utf-8").replace("second", "SECOND"), encoding="utf-8")
    commit(checkout)


def build(checkout: Path, kind: str = "--wheel") -> Path:
    """Build a wheel or an sdist without git, with the hatchling that is installed here."""
    dist = checkout / "dist"
    settings = clean_settings() | {"PATH": str(Path(sys.executable).parent)}
    command = (sys.executable, "-m", "build", "--no-isolation", kind, "--outdir")
    run(*command, dist, cwd=checkout, settings=settings)
    [built] = dist.glob("*.whl" if kind == "--wheel" else "*.tar.gz")
    return built.rename(checkout.parent / built.name)


def tagged_wheel(checkout: Path, version: str) -> Path:
    """Release a version, as a commit with a tag, and as a wheel."""
    make_release(checkout, version)
    commit(checkout, f"Release {version}")
    git(checkout, "tag", f"v{version}")
    return build(checkout)


def install(wheel: Path, folder: Path) -> Environment:
    """Make an environment with a wheel and the tested versions of what it needs, by uv, in a second."""
    environment = Environment(folder / "venv", folder / "home")
    environment.home.mkdir(parents=True)
    uv("venv", "--python", sys.executable, environment.folder)
    uv("pip", "install", "--python", environment.python, "--constraint", CONSTRAINTS, wheel)
    return environment


def upgrade(environment: Environment, wheel: Path) -> None:
    """Replace the mlscaffold of an environment."""
    uv("pip", "install", "--python", environment.python, "--constraint", CONSTRAINTS, wheel)


def install_with_pip(wheel: Path, folder: Path) -> Environment:
    """Make an environment in the way that comes with Python."""
    environment = Environment(folder / "venv", folder / "home")
    environment.home.mkdir(parents=True)
    run(sys.executable, "-m", "venv", environment.folder, cwd=folder)
    pip = (environment.python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS)
    run(*pip, wheel, cwd=folder)
    return environment


def uv(*arguments: str | Path, **more: str) -> str:
    """Run uv, with the cache of whoever runs the tests."""
    return run(find_uv_bin(), "--quiet", *arguments, cwd=ROOT.parent, settings=clean_settings() | more)


@pytest.fixture(scope="session")
def first_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        copy_repository(folder / "checkout")

    return proofs.once_for_all(tmp_path_factory, "first-checkout", make) / "checkout"


@pytest.fixture
def checkout(first_checkout: Path, tmp_path: Path) -> Path:
    """A copy of this repository without releases."""
    return shutil.copytree(first_checkout, tmp_path / "checkout", symlinks=True)


@dataclass(frozen=True)
class Releases:
    """Wheels of 0.1.0 and 0.2.0, which differ in a line of NOTES.md, and the repository with both tags."""

    old: Path
    new: Path
    repository: Path


@pytest.fixture(scope="session")
def two_releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    def make(folder: Path) -> None:
        checkout = copy_repository(folder / "checkout")
        tagged_wheel(checkout, "0.1.0")
        change_notes(checkout)
        tagged_wheel(checkout, "0.2.0")
        checkout.rename(folder / "moved")  # a wheel that looks for its checkout fails

    folder = proofs.once_for_all(tmp_path_factory, "releases", make)
    old, new = sorted(folder.glob("*.whl"))
    return Releases(old, new, folder / "moved")


@pytest.fixture(scope="session")
def old(two_releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with 0.1.0."""
    return shared_environment(two_releases.old, tmp_path_factory, "old")


@pytest.fixture(scope="session")
def new(two_releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with 0.2.0."""
    return shared_environment(two_releases.new, tmp_path_factory, "new")


def shared_environment(wheel: Path, factory: pytest.TempPathFactory, name: str) -> Environment:
    """An environment for all processes of a run; each has a home, and what Copier keeps there, of its own."""
    folder = proofs.once_for_all(factory, f"environment-{name}", lambda folder: install(wheel, folder))
    return Environment(folder / "venv", factory.mktemp(name))
