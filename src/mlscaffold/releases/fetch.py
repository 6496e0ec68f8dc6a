"""Fetch the releases of a template that projects were made from: from this package, or from a git address."""

import io
import re
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from packaging.version import Version

from mlscaffold import __version__
from mlscaffold.errors import CatalogueError, ProjectError, ToolError
from mlscaffold.releases.addresses import refuse_unsafe_address
from mlscaffold.releases.installed import bundle_of
from mlscaffold.releases.own import BUNDLE, SOURCE, recorded_commit, template_root
from mlscaffold.system.bounds import DEEPEST, TOO_DEEP, bounded_programs
from mlscaffold.system.git import git, own_git, reason, run_own_git

OWN = "git+mlscaffold::"
# A template may come from a stranger: git asks for no password, starts no program that an address names, and
# from a folder it goes nowhere else.
PROTOCOLS, LOCAL = "file:git:http:https:ssh", "file"
MOST_FETCHED, MOST_BYTES = 512 << 20, 64 << 20  # of a repository, of a release
# A name of a release or commit as git allows it, and as `git describe` makes it; nothing to be reckoned with.
NAME = re.compile(r"(?!-)(?!.*(?:\.\.|@\{|//))[^\s\x00-\x1f\x7f~^:?*\[\\]+")
# Files are as they are committed: nobody's filters, and none left out.
ATTRIBUTES = "* !filter !ident !working-tree-encoding !export-ignore !export-subst\n"
LFS = b"version https://git-lfs.github.com/spec/"
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
        self.releases: Callable[[str], list[str]] = cache(self._tags)
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
            return run_own_git(self.repository(source), "rev-parse", "--verify", "HEAD")
        return max(every, key=lambda tag: versions[tag])

    def check(self, source: str, tag: str) -> None:
        """Refuse a release, or the hash of a commit, that the source does not have."""
        if tag in self.releases(source) or (source != SOURCE and self._commit(source, tag)):
            return
        known = ", ".join(self.releases(source)) or "none"
        if source != SOURCE:
            raise ProjectError(f"{source} has no release {tag}, only {known}.")
        raise ProjectError(
            f"This mlscaffold, {__version__}, does not know the release {tag}, only {known}.",
            "Upgrade mlscaffold if the project is newer.",
        )

    def _tags(self, source: str) -> list[str]:
        words = ("for-each-ref", "--format=%(refname:lstrip=2)", "refs/tags")
        return [
            tag for tag in run_own_git(self.repository(source), *words).splitlines() if NAME.fullmatch(tag)
        ]

    def _commit(self, source: str, name: str) -> str:
        """The hash that a release, or what `git describe` calls a commit, has; nothing when there is none."""
        if not NAME.fullmatch(name):
            return ""
        for ref in (f"refs/tags/{name}", name):
            words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
            if found := own_git(self.repository(source), *words).stdout.strip():
                return found
        return ""

    def _clone(self, source: str) -> Path:
        place = self.folder / f"{len(list(self.folder.iterdir()))}.git"
        refuse_unsafe_address(source, "_src_path")
        address = str(self.bundle) if source == SOURCE else _address(source)
        here = address.startswith("file:") or Path(address).exists()
        allowed = LOCAL if here else PROTOCOLS
        words = ("clone", "--quiet", "--bare", "--no-local", "--template=", "--", address, str(place))
        with bounded_programs(source, MOST_FETCHED):
            done = git(self.folder, *words, GIT_ALLOW_PROTOCOL=allowed)
        if done.returncode:
            raise ToolError(
                f"{source}: git cannot fetch the template: {reason(done)}",
                "Check its address and your access.",
            )
        (place / "info").mkdir(exist_ok=True)
        (place / "info/attributes").write_text(ATTRIBUTES, encoding="utf-8")
        return place

    def _extract(self, source: str, tag: str) -> Path:
        if (source, self.bundle) == (SOURCE, BUNDLE) and tag == recorded_commit():
            return template_root()
        self.check(source, tag)
        repository = self.repository(source)
        commit = self._commit(source, tag)
        packed = repository.with_suffix(f".{commit}.tar")
        with bounded_programs(source, MOST_BYTES):
            done = own_git(repository, "archive", "--format=tar", f"--output={packed}", commit)
        if done.returncode:
            wrong = f"{source} {tag} holds more than {MOST_BYTES >> 20} MiB, or cannot be read."
            raise CatalogueError(wrong)
        place = repository.with_suffix(f".{commit}")
        with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
            for member in archive:
                if member.name.count("/") > DEEPEST:
                    raise CatalogueError(f"{source} {tag} cannot be used: {TOO_DEEP}.")
                if not member.isreg() and not member.isdir():
                    raise CatalogueError(
                        f"{source} {tag}: {member.name} is a link, which a template may not hold."
                    )
                file = archive.extractfile(member) if member.isreg() else None
                if file and file.read(len(LFS)) == LFS:
                    raise CatalogueError(
                        f"{source} {tag}: {member.name} is in Git LFS, where a template's files cannot be."
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
    except ValueError:  # of packaging, or a number of more digits than Python reads
        return None


def is_older(tag: str, than: str) -> bool:
    """Compare releases; names that are no versions are never older."""
    first, second = _version(tag), _version(than)
    return first is not None and second is not None and first < second
