"""Read a project that exists: where it lies in its repository, and the templates it was made from."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from mlscaffold.catalogue.answers import read_mapping
from mlscaffold.errors import ProjectError, short
from mlscaffold.rendering.render import ANSWERS_FILE
from mlscaffold.system.git import git, is_outside, reason, run_git, status

OLDEST_GIT = (2, 38)  # the first whose merge-tree writes a tree
MOST_LAYERS = 20  # templates of a project, each of which is fetched

# What git leaves in its folder while something is under way, and how one ends it.
UNDER_WAY = {
    "MERGE_HEAD": "git merge --continue, or --abort",
    "CHERRY_PICK_HEAD": "git cherry-pick --continue, or --abort",
    "REVERT_HEAD": "git revert --continue, or --abort",
    "rebase-merge": "git rebase --continue, or --abort",
    "rebase-apply": "git rebase --continue, or --abort",
    "BISECT_LOG": "git bisect reset",
}


@dataclass(frozen=True)
class Layer:
    """A template that a project was made from: ours, or the overlay of a kit."""

    answers_file: str  # its name in the project
    source: str  # the address that Copier would fetch it from
    commit: str  # its release; nothing, for files that nobody else has
    answers: dict[str, object]


@dataclass(frozen=True)
class Project:
    """A project in a git repository; every file of it is committed."""

    folder: Path
    top: Path  # of the repository
    prefix: str  # from there to the project, "" or "services/digits/"
    layers: tuple[Layer, ...]  # ours first; kits after it
    fixed: tuple[str, ...]  # answers files of kits without a history, whose files stay as they are


def open_project(folder: Path) -> Project:
    """Look at a project before it is changed; raises `ProjectError` where git could not bring it back."""
    if not (folder / ANSWERS_FILE).is_file():
        raise ProjectError(
            f"{folder} holds no {ANSWERS_FILE}.", "Go to the folder of a project that mlscaffold made."
        )
    if shutil.which("git") is None:
        raise ProjectError("git is not installed.", "An update merges with git: install it.")
    if _git_version(folder) < OLDEST_GIT:
        raise ProjectError(
            f"{run_git(folder, '--version')} is too old.",
            f"Install git {'.'.join(map(str, OLDEST_GIT))} or newer, or run `copier update`.",
        )
    first, *kits = (_layer(path) for path in _answers_files(folder))
    if not first.commit:
        raise ProjectError(
            f"{folder / ANSWERS_FILE} names no release of a template: its files are nobody else's.",
            "Make it anew with a released mlscaffold, elsewhere, and bring your changes there.",
        )
    _check_repository(folder)
    top = Path(run_git(folder, "rev-parse", "--show-toplevel"))
    prefix = run_git(folder, "rev-parse", "--show-prefix")
    fixed = tuple(kit.answers_file for kit in kits if not kit.commit)
    return Project(folder, top, prefix, (first, *(kit for kit in kits if kit.commit)), fixed)


def _git_version(folder: Path) -> tuple[int, ...]:
    words = run_git(folder, "--version").split()
    return tuple(int(part) for part in words[2].split(".")[:2])


def _answers_files(folder: Path) -> list[Path]:
    files = [folder / ANSWERS_FILE, *sorted(folder.glob(".copier-answers.*.yml"))]
    if len(files) > MOST_LAYERS:
        raise ProjectError(
            f"{folder} holds {len(files):,} answers files, and {MOST_LAYERS} are the most.",
            "Remove those of kits that it was not made from.",
        )
    if links := [path.name for path in files if path.is_symlink()]:
        raise ProjectError(
            f"{folder}: {', '.join(links)}: a link, which could lead anywhere.", "Put the file itself there."
        )
    return [path for path in files if path.is_file()]


def _layer(path: Path) -> Layer:
    stored = read_mapping(path)
    source, commit = stored.get("_src_path"), stored.get("_commit")
    known = isinstance(source, str) and isinstance(commit, str)
    answers = {str(name): value for name, value in stored.items() if not str(name).startswith("_")}
    return Layer(path.name, str(source), str(commit) if known else "", answers)


def _check_repository(folder: Path) -> None:
    inside = git(folder, "rev-parse", "--is-inside-work-tree")
    if inside.returncode and not is_outside(inside):
        raise ProjectError(f"git does not use the repository of {folder}: {reason(inside)}")
    if inside.returncode or inside.stdout.strip() != "true":
        raise ProjectError(
            f"{folder} is in no git repository, so nothing could be undone.",
            "Run `git init && git add --all && git commit -m Start` first.",
        )
    if git(folder, "rev-parse", "--verify", "--quiet", "HEAD").returncode:
        raise ProjectError(
            "The repository has no commit yet.", "Run `git add --all && git commit -m Start` first."
        )
    words = (word for name in UNDER_WAY for word in ("--git-path", name))
    places = run_git(folder, "rev-parse", *words).splitlines()
    for place, (name, remedy) in zip(places, UNDER_WAY.items(), strict=True):
        if (folder / place).exists():
            raise ProjectError(
                f"Git is in the middle of something here ({name}).", f"End it first: {remedy}."
            )
    looked = status(folder, "no")
    if looked.returncode:
        raise ProjectError(f"git cannot tell what is committed in {folder}: {reason(looked)}")
    changed = [entry for entry in looked.stdout.split("\0") if entry]
    if changed:
        names = ", ".join(short(entry[3:]) for entry in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ProjectError(f"Not committed: {names}{more}.", "Commit or stash it first.")
    untracked = run_git(folder, "ls-files", "--others", "--", ANSWERS_FILE)
    if untracked:
        raise ProjectError(f"{ANSWERS_FILE} is not committed.", "Commit the project first: `git add --all`.")
