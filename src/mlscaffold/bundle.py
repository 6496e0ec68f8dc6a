"""Add a release to a git bundle: a commit without a parent, whose hash follows from its files alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlscaffold.errors import MlscaffoldError
from mlscaffold.git import run_git
from mlscaffold.source import commit_hash, refs, release_commit, releases, tree_hash

PLAIN = ("-c", "core.autocrlf=false", "-c", "core.fileMode=true", "-c", "core.excludesFile=")


def append(bundle: Path, root: Path, names: Sequence[str], tag: str) -> None:
    """Release files and folders of `root`; a reader sees the old bundle or the new one, nothing between."""
    with tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
        store = Path(folder, "store.git")
        run_git(
            root, "init", "--quiet", "--bare", "--object-format=sha1", "--initial-branch=main", str(store)
        )
        if bundle.is_file():
            run_git(store, "fetch", "--quiet", str(bundle.resolve()), "refs/tags/*:refs/tags/*")
        tree = _add(store, root, names)
        commit = run_git(
            store, "hash-object", "-t", "commit", "-w", "--stdin", given=release_commit(tree, tag).decode()
        )
        run_git(store, "update-ref", f"refs/tags/{tag}", commit)
        run_git(store, "update-ref", "refs/heads/main", commit)
        written = Path(folder, "releases.bundle")
        run_git(store, "bundle", "create", "--quiet", str(written.resolve()), "--all")
        if releases(written) != {**releases(bundle), tag: commit_hash(tree, tag)}:
            raise MlscaffoldError(f"git wrote a bundle of {refs(written)}, so nothing is released.")
        written.replace(bundle)


def _add(store: Path, root: Path, names: Sequence[str]) -> str:
    """Store the files as a tree, the very one that `tree_hash` computes."""
    settings = {"GIT_DIR": str(store), "GIT_WORK_TREE": str(root), "GIT_INDEX_FILE": str(store / "index")}
    without = (":(exclude,glob)**/*.py[co]", ":(exclude,glob)**/__pycache__/**")
    run_git(root, *PLAIN, "add", "--force", "--", *names, *without, **settings)
    tree = run_git(root, "write-tree", **settings)
    if tree != tree_hash(root, names):
        raise MlscaffoldError(
            f"{root}: git and mlscaffold see different files.", "Remove links and odd files."
        )
    return tree
