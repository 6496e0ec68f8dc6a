"""Give a new project its repository."""

import shutil
from pathlib import Path

from mlscaffold import __version__
from mlscaffold.system.git import git, reason


def enclosing_repository(folder: Path) -> Path | None:
    """Find the work tree that a folder, which need not exist, lies in."""
    return next((parent for parent in folder.resolve().parents if (parent / ".git").exists()), None)


def start_repository(folder: Path, target: Path) -> str:
    """Make `folder`, soon to be at `target`, a repository with one commit; returns what is left to do."""
    if shutil.which("git") is None:
        return "git is not installed: the project is no repository yet, and `copier update` needs one."
    if outer := enclosing_repository(target):
        return f"{outer} is a git repository already: the project is part of it. Commit it there."
    for arguments in (["init", "--quiet"], ["add", "--all", "--force"]):
        done = git(folder, *arguments)
        if done.returncode:
            shutil.rmtree(folder / ".git", ignore_errors=True)
            return f"git made no repository: {reason(done)}"
    return _commit(folder)


def _commit(folder: Path) -> str:
    message = f"Start from mlscaffold {__version__}"
    done = git(folder, "commit", "--quiet", "--no-verify", "--message", message)
    if "auto-detection is disabled" in done.stderr:
        return (
            "git does not know who you are, so the files are staged but not committed. Set user.name and "
            f'user.email with `git config --global`, then run `git commit -m "{message}"`.'
        )
    return f"git made no commit: {reason(done)}" if done.returncode else ""
