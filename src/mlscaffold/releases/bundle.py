"""Read which releases a git bundle holds, and add one: a commit whose hash follows from its files alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlscaffold.errors import MlscaffoldError
from mlscaffold.releases.hashes import commit_hash, release_commit, tree_hash
from mlscaffold.system.git import make_bare, run_own_git


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


def release_of(tree: str, bundle: Path) -> str:
    """Find the release in a bundle that holds exactly this tree; nothing when there is none."""
    found = (tag for tag, commit in releases(bundle).items() if commit == commit_hash(tree, tag))
    return next(found, "")


def append(bundle: Path, root: Path, names: Sequence[str], tag: str) -> None:
    """Release files and folders of `root`; a reader sees the old bundle or the new one, nothing between."""
    with tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
        store = Path(folder, "store.git")
        make_bare(store)
        if bundle.is_file():
            old = (str(bundle.resolve()), "refs/tags/*:refs/tags/*")
            run_own_git(store, "fetch", "--quiet", *old, GIT_ALLOW_PROTOCOL="file")
        tree = _add(store, root, names)
        written_commit = release_commit(tree, tag).decode()
        commit = run_own_git(store, "hash-object", "-t", "commit", "-w", "--stdin", given=written_commit)
        run_own_git(store, "update-ref", f"refs/tags/{tag}", commit)
        run_own_git(store, "update-ref", "refs/heads/main", commit)
        written = Path(folder, "releases.bundle")
        run_own_git(store, "bundle", "create", "--quiet", str(written.resolve()), "--all")
        if releases(written) != {**releases(bundle), tag: commit_hash(tree, tag)}:
            raise MlscaffoldError(f"git wrote a bundle of {refs(written)}, so nothing is released.")
        written.replace(bundle)


def _add(store: Path, root: Path, names: Sequence[str]) -> str:
    """Store the files as a tree, the very one that `tree_hash` computes."""
    places = {"GIT_WORK_TREE": str(root.resolve()), "GIT_LITERAL_PATHSPECS": "0"}
    without = (":(top,exclude,glob)**/*.py[co]", ":(top,exclude,glob)**/__pycache__/**")
    own = [f":(top,literal){name}" for name in names]
    run_own_git(store, "add", "--force", "--", *own, *without, **places)
    tree = run_own_git(store, "write-tree")
    if tree != tree_hash(root, names):
        raise MlscaffoldError(
            f"{root}: git and mlscaffold see different files.", "Remove links and odd files."
        )
    return tree
