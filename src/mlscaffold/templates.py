"""Fetch the releases of a template that projects were made from: from this package, or from a git address."""

import io
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from packaging.version import InvalidVersion, Version

from mlscaffold import __version__
from mlscaffold.addresses import refuse_unsafe_address
from mlscaffold.bounds import bounded_programs
from mlscaffold.errors import CatalogueError, ProjectError, ToolError
from mlscaffold.git import git, run_git
from mlscaffold.installed import bundle_of
from mlscaffold.source import BUNDLE, SOURCE, recorded_commit, template_root

OWN = "git+mlscaffold::"
# A template may come from a stranger: git asks for no password, and starts no program that an address names.
ASK_NOTHING = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
MOST_FETCHED, MOST_BYTES = 512 << 20, 64 << 20  # of a repository, of a release
HOSTS = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}  # Copier's short forms


class Templates:
    """Releases, fetched when they are first asked for and kept until the end of the `with` block.

    `bundle` holds those of `mlscaffold::default`, which git need not be asked for.
    """

    def __init__(self, bundle: Path = BUNDLE) -> None:
        self.bundle = bundle

    def __enter__(self) -> Self:
        self.exits = ExitStack()
        self.folder = Path(self.exits.enter_context(tempfile.TemporaryDirectory(prefix="mlscaffold-")))
        self.repository: Callable[[str], Path] = cache(self._clone)
        self.root: Callable[[str, str], Path] = cache(self._extract)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.exits.close()

    def newest(self, source: str, than: str) -> str:
        """The newest release of a source; a finished one, unless the project is at one that is not.

        Without releases it is the newest commit, as it is to Copier.
        """
        versions = {tag: version for tag in self.releases(source) if (version := _version(tag))}
        early = _version(than)
        finished = [tag for tag, version in versions.items() if not version.is_prerelease]
        every = list(versions) if (early and early.is_prerelease) or not finished else finished
        if not every:
            return run_git(self.repository(source), "rev-parse", "HEAD")
        return max(every, key=lambda tag: versions[tag])

    def check(self, source: str, tag: str) -> None:
        """Refuse a release, or the hash of a commit, that the source does not have."""
        if tag in self.releases(source):
            return
        if (
            source != SOURCE
            and not git(self.repository(source), "rev-parse", "--verify", f"{tag}^{{commit}}").returncode
        ):
            return
        known = ", ".join(self.releases(source)) or "none"
        if source != SOURCE:
            raise ProjectError(f"{source} has no release {tag}, only {known}.")
        raise ProjectError(
            f"This mlscaffold, {__version__}, does not know the release {tag}, only {known}.",
            "Upgrade mlscaffold if the project is newer.",
        )

    def releases(self, source: str) -> list[str]:
        return run_git(self.repository(source), "tag", "--list").splitlines()

    def _clone(self, source: str) -> Path:
        place = self.folder / f"{len(list(self.folder.iterdir()))}.git"
        address = str(self.bundle) if source == SOURCE else _address(source)
        refuse_unsafe_address(source, "_src_path")
        with bounded_programs(source, MOST_FETCHED):
            done = git(self.folder, "clone", "--quiet", "--bare", "--", address, str(place), **ASK_NOTHING)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ToolError(
                f"{source}: git cannot fetch the template: {reason}.", "Check its address and your access."
            )
        return place

    def _extract(self, source: str, tag: str) -> Path:
        if (source, self.bundle) == (SOURCE, BUNDLE) and tag == recorded_commit():
            return template_root()
        self.check(source, tag)
        repository = self.repository(source)
        name = tag.replace("/", "_")
        packed = repository.with_suffix(f".{name}.tar")
        with bounded_programs(source, MOST_BYTES):
            done = git(repository, "archive", "--format=tar", f"--output={packed}", tag)
        if done.returncode:
            wrong = f"{source} {tag} holds more than {MOST_BYTES >> 20} MiB, or cannot be read."
            raise CatalogueError(wrong)
        place = repository.with_suffix(f".{name}")
        with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
            for member in archive:
                if not member.isreg() and not member.isdir():
                    raise CatalogueError(
                        f"{source} {tag}: {member.name} is a link, which a template may not hold."
                    )
            archive.extractall(place, filter="data")
        return place


def _address(source: str) -> str:
    for short, host in HOSTS.items():
        if source.startswith(short):
            return f"{host}{source.removeprefix(short)}.git"
    if source.startswith(OWN):
        return str(bundle_of(source.removeprefix(OWN)))  # the remote helper need not be on PATH
    return source.removeprefix("git+")


def _version(tag: str) -> Version | None:
    try:
        return Version(tag)
    except InvalidVersion:
        return None


def is_older(tag: str, than: str) -> bool:
    """Compare releases; names that are no versions are never older."""
    first, second = _version(tag), _version(than)
    return first is not None and second is not None and first < second
