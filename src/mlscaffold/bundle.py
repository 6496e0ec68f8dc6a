"""Add a release to a git bundle: a commit without a parent, whose hash follows from its files alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlscaffold.errors import MlscaffoldError
from mlscaffold.git import make_bare, run_own_git
from mlscaffold.source import commit_hash, refs, release_commit, releases, tree_hash


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
