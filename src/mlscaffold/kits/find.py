"""Find a kit by the name of an installed one, a folder, or a git address."""

import tempfile
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

from mlscaffold.catalogue.questions import Catalogue
from mlscaffold.errors import KitError, did_you_mean, masked, short
from mlscaffold.kits.committed import is_as_committed
from mlscaffold.kits.kit import Kit, read_kit, released_names
from mlscaffold.kits.snapshot import snapshot
from mlscaffold.releases.addresses import refuse_unsafe_address
from mlscaffold.releases.bundle import release_of
from mlscaffold.releases.fetch import Templates
from mlscaffold.releases.hashes import tree_hash
from mlscaffold.releases.installed import folder_of, installed_kits
from mlscaffold.releases.own import BUNDLE
from mlscaffold.system.git import LOOK_SECONDS, git
from mlscaffold.system.terminal import expand


def find_kit(reference: str, catalogue: Catalogue, templates: Templates) -> Kit:
    """Find a kit by the name of an installed one, a folder, or a git address."""
    known = installed_kits()
    if entry := known.get(reference):
        return installed_kit(entry, catalogue)
    refuse_unsafe_address(reference, "--kit")
    folder = expand(Path(reference))
    if folder.is_dir():
        place = folder.absolute()
        copy = _copied(place, Path(tempfile.mkdtemp(prefix="kit-", dir=templates.folder), "kit"))
        source, commit = _history(place, copy)
        return read_kit(copy, catalogue, source, commit, place)
    if source := _git_address(reference):
        commit = templates.newest(source, "")
        return read_kit(templates.root(source, commit), catalogue, source, commit)
    raise KitError(
        f"{short(masked(reference))} is no folder, no installed kit and no git address.",
        did_you_mean(reference, known) or f"Installed are: {', '.join(known) or 'none'}.",
    )


def _copied(folder: Path, place: Path) -> Path:
    try:
        return snapshot(folder, place)
    except OSError as error:
        raise KitError(f"{folder} cannot be read: {error.strerror}.", "Nothing was written.") from error


def _git_address(reference: str) -> str:
    """The address of a repository as Copier understands it; nothing for what is none."""
    if reference.startswith(("git@", "git+", "gh:", "gl:")) or reference.endswith(".git"):
        return reference
    return f"git+{reference}" if "://" in reference else ""


def installed_kit(entry: EntryPoint, catalogue: Catalogue) -> Kit:
    """Read the kit of a package; it can be updated if its files are those of a release in its bundle."""
    folder = folder_of(entry)
    kit = read_kit(folder, catalogue)
    if not kit.has_overlay:
        return kit
    commit = release_of(tree_hash(folder, released_names(folder)), folder / BUNDLE.name)
    return replace(kit, source=f"git+mlscaffold::{entry.name}", commit=commit) if commit else kit


def _history(folder: Path, copy: Path) -> tuple[str, str]:
    """The address and commit of a kit whose copy is as committed; else nothing, and no update."""
    look = partial(git, folder, seconds=LOOK_SECONDS)
    top = look("rev-parse", "--show-toplevel")
    if top.returncode or Path(top.stdout.strip()).resolve() != folder.resolve():
        return "", ""
    if not is_as_committed(folder, copy):
        return "", ""
    exact = look("describe", "--tags", "--exact-match")
    commit = exact if not exact.returncode else look("rev-parse", "--verify", "HEAD")
    return (str(folder), commit.stdout.strip()) if not commit.returncode else ("", "")
