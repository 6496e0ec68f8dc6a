"""Run git so that no folder it looks at can start a program.

Every git command of this package goes through `git` or `own_git`. A folder may come from a stranger, with a
`.git/config` and hooks of theirs: what names a program there is as if it were not written. What users set for
themselves (`git config --global`: git-lfs, `core.autocrlf`, whom they trust) holds. Nothing is fetched unless
the caller names the protocols.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlscaffold.errors import ToolError
from mlscaffold.screen import in_a_line

# Where a surrounding git command (a hook, `git rebase --exec`) says which repository it works in, and what
# changes the sense of arguments or of what is printed.
DEAF = {
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_ATTR_SOURCE", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_DIR"),
    *("GIT_DIFF_OPTS", "GIT_EXTERNAL_DIFF", "GIT_GLOB_PATHSPECS", "GIT_GRAFT_FILE", "GIT_ICASE_PATHSPECS"),
    *("GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE"),
    *("GIT_NOGLOB_PATHSPECS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH"),
    *("GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE"),
}
ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_OPTIONAL_LOCKS": "0",  # who only looks writes no index
    "GIT_TERMINAL_PROMPT": "0",
}
Setting = tuple[str, str]
SETTINGS: list[Setting] = [
    ("safe.bareRepository", "explicit"),  # one buried in a clone is a folder of files
    ("core.fsmonitor", "false"),
    ("core.hooksPath", os.devnull),
    ("core.pager", "cat"),
    ("core.quotePath", "false"),
    ("core.safecrlf", "false"),
    ("core.useReplaceRefs", "false"),
    ("commit.gpgSign", "false"),
    ("color.ui", "false"),
    ("init.defaultBranch", "main"),
    ("merge.directoryRenames", "true"),
    ("submodule.recurse", "false"),
    ("user.useConfigOnly", "true"),  # who is not set by name commits nothing
]
# Settings that name programs, for git or for filters of the user that ask git for settings, as git-lfs does.
PROGRAM = re.compile(
    r"(filter|hook|lfs\.extension|lfs\.customtransfer)\.|lfs\..*standalonetransferagent$|credential\..*helper$"
    r"|core\.(sshcommand|askpass|gitproxy|editor)$",
    re.DOTALL,
)
FOREIGN = ("local", "worktree")  # scopes of settings that lie in the repository
NOBODY = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
}
NOBODYS_FILES = [("core.attributesFile", os.devnull), ("core.excludesFile", os.devnull)]

MOST_SECONDS = 300  # for a command of git, which may wait for what a repository names;
LOOK_SECONDS = 30  # for a look at the folder of a stranger

Done = subprocess.CompletedProcess[str]


def git(
    folder: Path,
    *arguments: str,
    given: str = "",
    settings: Sequence[Setting] = (),
    seconds: int = MOST_SECONDS,
    **variables: str,
) -> Done:
    """Run git in a folder, with the user's settings and none of the folder's own that name programs."""
    own = _with_settings({**_inherited(), **ENVIRONMENT, **variables}, [*SETTINGS, *settings])
    if arguments[0] in ("--version", "init", "clone"):  # none of them looks into a repository that exists
        return _run(folder, arguments, given, own, seconds)
    listed = _run(folder, ("config", "--list", "--show-scope", "-z"), "", own, seconds)
    if listed.returncode:
        return listed
    return _run(folder, arguments, given, _with_settings(own, _disarmed(listed.stdout)), seconds)


def run_git(
    folder: Path,
    *arguments: str,
    given: str = "",
    settings: Sequence[Setting] = (),
    seconds: int = MOST_SECONDS,
    **variables: str,
) -> str:
    """Run git, which has to succeed, and return what it prints; raises `ToolError`."""
    done = git(folder, *arguments, given=given, settings=settings, seconds=seconds, **variables)
    return _succeeded(done, arguments).stdout.strip("\n")


def own_git(repository: Path, *arguments: str, given: str = "", **variables: str) -> Done:
    """Run git on the objects of a bare repository of ours, with nobody's settings at all."""
    kept = {name: value for name, value in _inherited().items() if not name.startswith("GIT_CONFIG")}
    own = {**kept, **ENVIRONMENT, **NOBODY, "GIT_DIR": str(repository.absolute()), **variables}
    return _run(repository, arguments, given, _with_settings(own, [*SETTINGS, *NOBODYS_FILES]))


def run_own_git(repository: Path, *arguments: str, given: str = "", **variables: str) -> str:
    """Run git as `own_git` does; it has to succeed. Returns what it prints; raises `ToolError`."""
    done = own_git(repository, *arguments, given=given, **variables)
    return _succeeded(done, arguments).stdout.strip("\n")


def make_bare(repository: Path, object_format: str = "sha1") -> None:
    """Make a bare repository of ours, without what the user's `init.templateDir` would bring."""
    repository.mkdir(exist_ok=True)
    run_own_git(repository, "init", "--quiet", "--bare", "--template=", f"--object-format={object_format}")


def status(folder: Path, untracked: str, seconds: int = MOST_SECONDS) -> Done:
    """What is not committed here, as `XY path` between NULs; submodules are not looked into."""
    own = ["--no-renames", "--ignore-submodules=dirty", f"--untracked-files={untracked}"]
    return git(folder, "status", "--porcelain=v1", "-z", *own, "--", ".", seconds=seconds)


def reason(done: Done) -> str:
    """What git said is wrong, in its own words and in a line."""
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("hint:")]
    text = " ".join(re.sub(r"^(fatal|error|warning): ", "", line).strip() for line in lines)
    text = in_a_line(text)[:600]
    if not text:
        return f"it ended with {done.returncode} and gave no reason."
    return text if lines[-1][0] == "\t" else f"{text.rstrip('.')}."  # a command to copy ends in no full stop


def is_outside(done: Done) -> bool:
    """Whether git failed because there is no repository, and not because it will not use the one there is."""
    return bool(done.returncode) and "not a git repository" in done.stderr


def program() -> str:
    """The git of PATH; raises `ToolError`. Never one of the current folder, where Windows looks first."""
    for folder in filter(os.path.isabs, os.environ.get("PATH", os.defpath).split(os.pathsep)):
        found = shutil.which("git", path=folder)
        if found and Path(found).parent == Path(folder):
            return found
    raise ToolError("git is not installed.", "Install it, or add it to PATH.")


def _run(
    folder: Path,
    arguments: tuple[str, ...],
    given: str,
    variables: Mapping[str, str],
    seconds: int = MOST_SECONDS,
) -> Done:
    try:
        done = subprocess.run(
            [program(), "--no-pager", *arguments],
            cwd=folder,
            env=variables,
            input=given.encode(errors="surrogateescape"),
            capture_output=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"`git {arguments[0]}` takes longer than {seconds} seconds in {folder}.",
            "Look at the settings in its .git/config.",
        ) from None
    except (OSError, ValueError) as error:  # a NUL in an argument, half a sign, more than a system takes
        raise ToolError(f"`git {arguments[0]}` cannot be started in {folder}: {error}.") from error
    # Not in text mode, which would change line ends; git's paths and files are bytes of any kind.
    streams = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, *streams)


def _succeeded(done: Done, arguments: tuple[str, ...]) -> Done:
    if done.returncode:
        raise ToolError(f"`git {arguments[0]}` failed: {reason(done)}")
    return done


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in DEAF}


def _with_settings(variables: Mapping[str, str], settings: Sequence[Setting]) -> dict[str, str]:
    """Add settings that are stronger than any file; not with `-c`, where a name ends at its first `=`."""
    text = variables.get("GIT_CONFIG_COUNT", "")
    count = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
    added = {"GIT_CONFIG_COUNT": str(count + len(settings))}
    for number, (name, value) in enumerate(settings, count):
        added |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return {**variables, **added}


def _disarmed(listed: str) -> list[Setting]:
    """Take back each setting of a repository that names a program: nothing, then what the user has set."""
    fields = listed.split("\0")
    settings = [
        (scope, *text.partition("\n")) for scope, text in zip(fields[::2], fields[1::2], strict=False)
    ]
    names = [name for scope, name, _, _ in settings if scope in FOREIGN and PROGRAM.match(name)]
    return [
        setting
        for name in dict.fromkeys(names)
        for setting in [
            (name, ""),
            *((n, v) for scope, n, _, v in settings if n == name and scope not in FOREIGN),
        ]
    ]
