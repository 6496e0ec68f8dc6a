"""Give a new project its repository and first commit."""

import os
import shutil
import subprocess
from pathlib import Path

from mlscaffold import __version__
from mlscaffold.errors import ToolError

# Where a surrounding git command (a hook, `git rebase --exec`) says which repository it works in.
LOCAL = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
}


def git(folder: Path, *arguments: str, given: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, in English and deaf to the repository that the caller may be in."""
    environment = {name: value for name, value in os.environ.items() if name not in LOCAL}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**environment, "LC_ALL": "C", **settings},
        input=given.encode(errors="surrogateescape"),
        capture_output=True,
        check=False,
    )
    # Not in text mode, which would change line ends; git's paths and files are bytes of any kind.
    streams = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, *streams)


def run_git(folder: Path, *arguments: str, given: str = "", **settings: str) -> str:
    """Run git, which has to succeed, and return what it prints; raises `ToolError`."""
    done = git(folder, *arguments, given=given, **settings)
    if done.returncode:
        raise ToolError(f"git {arguments[0]} failed: {_last_line(done)}")
    return done.stdout.strip("\n")


def enclosing_repository(folder: Path) -> Path | None:
    """Find the work tree that a folder, which need not exist, lies in."""
    return next((parent for parent in folder.resolve().parents if (parent / ".git").exists()), None)


def start_repository(folder: Path, target: Path) -> str:
    """Make `folder`, soon to be at `target`, a repository with one commit; returns what is left to do."""
    if shutil.which("git") is None:
        return "git is not installed: the project is no repository yet, and `copier update` needs one."
    if outer := enclosing_repository(target):
        return f"{outer} is a git repository already: the project is part of it. Commit it there."
    for arguments in (["-c", "init.defaultBranch=main", "init", "--quiet"], ["add", "--all", "--force"]):
        done = git(folder, *arguments)
        if done.returncode:
            shutil.rmtree(folder / ".git", ignore_errors=True)
            return f"git made no repository: {_last_line(done)}"
    return _commit(folder)


def _commit(folder: Path) -> str:
    # Hooks and signing belong to the user's own commits: here they would fail, or ask.
    settings = [
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "commit.gpgSign=false",
        "-c",
        "user.useConfigOnly=true",
    ]
    message = f"Start from mlscaffold {__version__}"
    done = git(folder, *settings, "commit", "--quiet", "--no-verify", "--message", message)
    if "auto-detection is disabled" in done.stderr:
        return (
            "git does not know who you are, so the files are staged but not committed. Set user.name and "
            f'user.email with `git config --global`, then run `git commit -m "{message}"`.'
        )
    return f"git made no commit: {_last_line(done)}" if done.returncode else ""


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or ["it gave no reason."])[-1]
