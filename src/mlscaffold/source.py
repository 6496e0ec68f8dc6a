"""Know where the template lies and which release it is.

Projects record a release as `_src_path: git+mlscaffold::default` and `_commit: v<version>`; `copier update`
fetches it through `git-remote-mlscaffold` from the bundle in this package. A release is one commit without a
parent that holds only `copier.yml` and `templates/`; author, date and message are fixed, so its hash follows
from its files, and comparing files with a release takes no git.
"""

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from mlscaffold import __version__
from mlscaffold.errors import MlscaffoldError

SOURCE = "git+mlscaffold::default"
TEMPLATE = ("copier.yml", "templates")  # what a release holds
BUNDLE = Path(__file__).with_name("releases.bundle")
SIGNATURE = "mlscaffold contributors <contributors@mlscaffold.invalid> 1767225600 +0000"  # 2026-01-01


def template_root() -> Path:
    """Find the folder of `copier.yml` and `templates/`: in an installed wheel, or in a checkout."""
    here = Path(__file__).resolve()
    installed = here.parent / "_template"
    root = installed if installed.is_dir() else here.parents[2]
    if not (root / "copier.yml").is_file():
        raise MlscaffoldError(f"There are no templates in {root}.", "Install mlscaffold anew.")
    return root


@cache
def is_own(root: Path) -> bool:
    """Tell the templates of this installation from others, however the path of those is written."""
    place = root.resolve()
    return place == template_root() or place.is_relative_to(Path(__file__).resolve().parent)


def recorded_commit() -> str | None:
    """Name the release whose files these are, `v0.1.0`, or `None` for files that nobody else has.

    `None` in a checkout that is ahead of its release or edited: a project that recorded a release there could
    not be updated from what it was really generated from.
    """
    tag = f"v{__version__}"
    released = releases(BUNDLE).get(tag)
    if released is None or released != commit_hash(template_tree(template_root()), tag):
        return None
    return tag


def releases(bundle: Path) -> dict[str, str]:
    """Read the tags of a bundle and the commit of each; no bundle, no releases."""
    return {ref.removeprefix("refs/tags/"): commit for ref, commit in refs(bundle).items() if "/tags/" in ref}


def refs(bundle: Path) -> dict[str, str]:
    """Read the header of a git bundle: lines of `<commit> <ref>` between its signature and a blank line."""
    if not bundle.is_file():
        return {}
    found = {}
    with bundle.open("rb") as file:
        if file.readline() not in (b"# v2 git bundle\n", b"# v3 git bundle\n"):
            raise MlscaffoldError(f"{bundle} is no git bundle.", "Install mlscaffold anew.")
        for line in iter(file.readline, b"\n"):
            if not line.endswith(b"\n"):
                raise MlscaffoldError(f"{bundle} ends within its header.", "Install mlscaffold anew.")
            if line[:1] not in b"-@":  # a prerequisite, a capability
                commit, ref = line.decode().rstrip("\n").split(" ", 1)
                found[ref] = commit
    return found


def template_tree(root: Path) -> str:
    """Compute the hash that git gives to the tree of `copier.yml` and `templates/` in `root`."""
    return tree_hash(root, TEMPLATE)


def tree_hash(root: Path, names: Iterable[str]) -> str:
    """Compute the hash that git gives to a tree of these files and folders of `root`, without git."""
    entries = {}
    for name in names:
        entry = _tree(root / name) if (root / name).is_dir() else _blob(root / name)
        if entry:
            entries[name] = entry
    return _tree_hash(entries).hex()


def release_of(tree: str, bundle: Path) -> str:
    """Find the release in a bundle that holds exactly this tree; nothing when there is none."""
    found = (tag for tag, commit in releases(bundle).items() if commit == commit_hash(tree, tag))
    return next(found, "")


def commit_hash(tree: str, tag: str) -> str:
    """Compute the hash of the release commit `tag` of `tree`; `tools/release.py` writes the same commit."""
    return object_hash("commit", release_commit(tree, tag)).hex()


def release_commit(tree: str, tag: str) -> bytes:
    """Compose the commit object of a release, as git stores it."""
    return f"tree {tree}\nauthor {SIGNATURE}\ncommitter {SIGNATURE}\n\nmlscaffold {tag}\n".encode()


def is_template_file(name: str) -> bool:
    """Tell a template from what Python leaves beside it: an installer compiles every `.py` it sees."""
    return name != "__pycache__" and not name.endswith((".pyc", ".pyo"))


_Entry = tuple[str, bytes]  # mode in octal, hash


def _tree(folder: Path) -> _Entry | None:
    """Hash a folder; `None` for one without files, which git does not keep."""
    entries = {}
    for item in os.scandir(folder):
        if is_template_file(item.name):
            entry = _tree(Path(item.path)) if item.is_dir() else _blob(Path(item.path))
            if entry:
                entries[item.name] = entry
    return ("40000", _tree_hash(entries)) if entries else None


def _tree_hash(entries: dict[str, _Entry]) -> bytes:
    def in_order_of_git(item: tuple[str, _Entry]) -> bytes:
        name, (mode, _) = item
        return name.encode() + (b"/" if mode == "40000" else b"")

    lines = (
        f"{mode} {name}".encode() + b"\0" + digest
        for name, (mode, digest) in sorted(entries.items(), key=in_order_of_git)
    )
    return object_hash("tree", b"".join(lines))


def _blob(path: Path) -> _Entry:
    content = path.read_bytes()
    # Windows keeps no such bit; a release holds no file where the two differ.
    executable = content.startswith(b"#!") if os.name == "nt" else path.stat().st_mode & 0o100
    return "100755" if executable else "100644", object_hash("blob", content)


def object_hash(kind: str, content: bytes, algorithm: str = "sha1") -> bytes:
    """Compute the hash that git gives to an object of a kind: blob, tree or commit."""
    return hashlib.new(
        algorithm, f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False
    ).digest()
