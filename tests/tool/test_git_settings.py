"""Whatever users have set for git, and of whatever kind their repository is: an update comes to the same."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlscaffold.releases.fetch import Templates
from mlscaffold.releases.own import SOURCE
from mlscaffold.rendering.render import render
from mlscaffold.rendering.target import write
from mlscaffold.update.apply import apply
from mlscaffold.update.command import print_diff
from mlscaffold.update.plan import Plan, plan_change, plan_update
from tests.support.releases import clean_settings, commit, git, run

OLD, NEW = "v0.5.0", "v0.7.3"  # fixed, as later releases move the files that are edited here
Words = tuple[str, ...]


@pytest.fixture(scope="module")
def templates() -> Iterator[Templates]:
    with Templates() as opened:
        yield opened


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, templates: Templates) -> Path:
    """A project below `services/`, with edits that conflict, that have no place any more, that move along."""
    top = tmp_path_factory.mktemp("origin") / "top"
    digits = top / "services/digits"
    answers = {"project": "digits", "strategy": "ddp"}
    write(render(answers, templates.root(SOURCE, OLD), OLD), digits)
    (top / "other").mkdir()
    (top / "other/größe.txt").write_text("one\n")
    git(top, "init", "--quiet", "--initial-branch=main")
    commit(top)
    for name in ("tests/test_processes.py", "src/digits/optim.py", "src/digits/train.py", "README.md"):
        text = (digits / name).read_text()
        (digits / name).write_text(f"# meine Größe\t \n{text}# mine \n\n\n")
    loggers = digits / "src/digits/loggers.py"
    loggers.write_text(
        loggers.read_text().replace('name=""', 'name="größe"')
    )  # where the template changes, too
    git(top, "mv", "services/digits/src/digits/metrics.py", "services/digits/src/digits/größen.py")
    commit(top)
    return top


@dataclass(frozen=True)
class Came:
    """What an update came to."""

    plan: dict[str, object]
    said: str
    staged: str
    files: dict[str, bytes]


def come_to(project: Path, plan: Plan, capsys: pytest.CaptureFixture[str]) -> Came:
    capsys.readouterr()
    print_diff(plan)
    said = capsys.readouterr().out
    assert "diff --git a/" in said
    apply(plan)
    listed = git(project, "-c", "core.quotePath=false", "ls-files", "--stage", "--full-name")
    staged = "\n".join(line for line in listed.splitlines() if line[0] == "1")  # and no warnings
    names = (path for path in project.rglob("*") if path.is_file())
    files = {
        path.relative_to(project).as_posix(): path.read_bytes() for path in names if ".git" not in path.parts
    }
    return Came(plan.as_json(), said, staged, files)


def outcomes(project: Path, templates: Templates, capsys: pytest.CaptureFixture[str]) -> list[Came]:
    """An update and a changed answer, each from what is committed."""
    first = come_to(project, plan_update(project, NEW, templates), capsys)
    git(project, "-c", "core.hooksPath=/dev/null", "reset", "--quiet", "--hard")
    second = come_to(project, plan_change(project, ["strategy=single"], templates), capsys)
    assert second.plan["dropped_edits"] == ["tests/test_processes.py"]
    assert "dropped-edits.patch" in second.files
    return [first, second]


def assert_same(came: list[Came], wanted: list[Came], *, files: bool = True) -> None:
    """Compare what updates came to, but for what `with_a_submodule` adds."""
    for ours, theirs in zip(came, wanted, strict=True):
        assert ours.plan == theirs.plan
        assert ours.said == theirs.said
        staged = ours.staged.splitlines()
        assert [
            s for s in staged if "digits/part" not in s and ".gitmodules" not in s
        ] == theirs.staged.splitlines()
        assert not files or {n: text for n, text in ours.files.items() if n[:5] != "part/"} == theirs.files


@pytest.fixture(scope="module")
def expected(origin: Path, templates: Templates, tmp_path_factory: pytest.TempPathFactory) -> "Expected":
    return Expected(origin, templates, tmp_path_factory.mktemp("expected"))


@dataclass
class Expected:
    """What an update comes to where nothing is set."""

    origin: Path
    templates: Templates
    place: Path
    came: list[Came] | None = None

    def get(self, capsys: pytest.CaptureFixture[str]) -> list[Came]:
        if self.came is None:
            project = clone(self.origin, self.place / "top")
            came = outcomes(project, self.templates, capsys)
            assert came[0].plan["conflicts"] or came[1].plan["conflicts"]
            self.came = came
        return self.came


def clone(origin: Path, place: Path, *words: str) -> Path:
    run("git", "clone", "--quiet", *words, origin.as_uri(), place, cwd=origin)
    return place / "services/digits"


PRINTED = """
[color] ui = always
diff = always
status = always
[color "diff"]
meta = blue
[core]
quotePath = true
pager = false
abbrev = 4
whitespace = trailing-space,tab-in-indent
attributesFile = attributes
[column] ui = always
[diff]
noprefix = true
mnemonicPrefix = true
renames = copies
renameLimit = 1
context = 0
interHunkContext = 9
algorithm = patience
indentHeuristic = false
external = false
orderFile = /dev/null
suppressBlankEmpty = true
wsErrorHighlight = all
colorMoved = zebra
relative = true
submodule = log
ignoreSubmodules = none
statGraphWidth = 9
[diff "python"]
textconv = false
command = false
xfuncname = "^x"
[status]
short = true
branch = true
showStash = true
showUntrackedFiles = all
relativePaths = false
renames = copies
submoduleSummary = true
[log]
date = iso
showSignature = true
decorate = full
[i18n]
commitEncoding = ISO-8859-1
logOutputEncoding = UTF-16
[tag] sort = -creatordate
[versionsort] suffix = -rc
[blame] coloring = repeatedLines
[pager]
diff = false
status = false
[tar] umask = 0777
"""
MERGES = """
[merge]
renames = false
directoryRenames = false
conflictStyle = diff3
renormalize = true
default = x
verbosity = 5
ff = only
[merge "x"] driver = false
[rerere]
enabled = true
autoUpdate = true
[commit]
gpgSign = true
template = /nowhere
verbose = true
cleanup = scissors
[tag] gpgSign = true
[gpg]
format = ssh
program = false
[user] signingKey = none
[apply] whitespace = error-all
[init]
templateDir = template
defaultBranch = trunk
[transfer] fsckObjects = true
[fetch]
fsckObjects = true
prune = true
[clone]
defaultRemoteName = elsewhere
[push] default = nothing
[advice] detachedHead = false
[alias]
status = !false
diff = !false
"""
STORED = """
[core]
hooksPath = hooks
fsmonitor = false
untrackedCache = true
splitIndex = true
preloadIndex = false
fileMode = false
safecrlf = true
compression = 0
bigFileThreshold = 1
logAllRefUpdates = false
ignoreStat = true
checkStat = minimal
trustctime = false
symlinks = false
sharedRepository = group
[index]
version = 4
threads = 1
sparse = true
[feature]
manyFiles = true
experimental = true
[gc] auto = 1
[pack]
writeReverseIndex = true
[submodule] recurse = true
[uploadpack] allowFilter = true
[protocol] version = 1
[extensions]
[checkout]
workers = 0
defaultRemote = x
[maintenance] auto = true
"""
CRLF = "[core]\nautocrlf = true\nsafecrlf = true\neol = crlf\n"
INPUT = "[core]\nautocrlf = input\nsafecrlf = true\n"
VARIABLES = {
    "GIT_EXTERNAL_DIFF": "false",
    "GIT_DIFF_OPTS": "--unified=0",
    "GIT_PAGER": "false",
    "GIT_EDITOR": "false",
    "GIT_GLOB_PATHSPECS": "1",
    "GIT_ICASE_PATHSPECS": "1",
    "GIT_DIR": "/nowhere",
    "GIT_INDEX_FILE": "/nowhere/index",
    "GIT_WORK_TREE": "/nowhere",
    "GIT_NAMESPACE": "x",
    "GIT_DEFAULT_HASH": "sha256",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "diff.noprefix",
    "GIT_CONFIG_VALUE_0": "true",
    "LC_ALL": "de_DE.UTF-8",
    "LANGUAGE": "de",
    "COLUMNS": "20",
}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (PRINTED, "global"),
        (MERGES, "global"),
        (STORED, "global"),
        (INPUT, "global"),
        (CRLF, "global"),
        (PRINTED + MERGES + STORED, "local"),
    ],
    ids=["printed", "merges", "stored", "input", "crlf", "local"],
)
def test_no_setting_changes_what_an_update_comes_to(
    text: str,
    where: str,
    origin: Path,
    templates: Templates,
    expected: Expected,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = expected.get(capsys)
    project = clone(origin, tmp_path / "top")
    for folder in ("hooks", "template/hooks"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("pre-commit", "post-index-change", "post-checkout", "reference-transaction"):
            (tmp_path / folder / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/HOOKED\nexit 1\n")
            (tmp_path / folder / name).chmod(0o755)
    (tmp_path / "attributes").write_text("* merge=x diff=python -text\n")
    for name in ("attributes", "hooks", "template"):
        text = text.replace(f" = {name}\n", f" = {tmp_path / name}\n")
    if where == "global":
        (tmp_path / "settings").write_text(text)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    else:
        with (tmp_path / "top/.git/config").open("a") as file:
            file.write(text)
    assert_same(outcomes(project, templates, capsys), wanted, files=text != CRLF)
    assert not (tmp_path / "HOOKED").exists()


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in clean_settings().items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)


def test_no_environment_variable_changes_what_an_update_comes_to(
    origin: Path,
    templates: Templates,
    expected: Expected,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = expected.get(capsys)
    project = clone(origin, tmp_path / "top")
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert_same(outcomes(project, templates, capsys), wanted)


def as_a_work_tree(origin: Path, place: Path) -> Path:
    clone(origin, place)
    git(place, "worktree", "add", "--quiet", "--detach", "../linked")
    return place.with_name("linked") / "services/digits"


def as_a_submodule(origin: Path, place: Path) -> Path:
    git(place.parent, "init", "--quiet", place.name)
    git(place, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", origin.as_uri(), "part")
    return place / "part/services/digits"


def with_a_submodule(origin: Path, place: Path) -> Path:
    project = clone(origin, place)
    git(project, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", origin.as_uri(), "part")
    git(project, "commit", "--quiet", "--message=More")
    (project / "part/other/more").write_text("not committed\n")
    return project


def sparse(origin: Path, place: Path) -> Path:
    project = clone(origin, place)
    git(place, "sparse-checkout", "set", "services/digits")
    return project


def sparse_with_a_sparse_index(origin: Path, place: Path) -> Path:
    project = clone(origin, place)
    git(place, "sparse-checkout", "set", "--cone", "--sparse-index", "services/digits")
    return project


def sparse_and_partial(origin: Path, place: Path) -> Path:
    git(origin, "config", "uploadpack.allowFilter", "true")
    project = clone(origin, place, "--filter=blob:none", "--sparse")
    git(place, "sparse-checkout", "set", "services/digits")
    return project


def treeless(origin: Path, place: Path) -> Path:
    git(origin, "config", "uploadpack.allowFilter", "true")
    return clone(origin, place, "--filter=tree:0")


def shallow(origin: Path, place: Path) -> Path:
    return clone(origin, place, "--depth=1")


def with_borrowed_objects(origin: Path, place: Path) -> Path:
    run("git", "clone", "--quiet", "--shared", origin, place, cwd=origin)
    return place / "services/digits"


def with_its_folder_elsewhere(origin: Path, place: Path) -> Path:
    return clone(origin, place, f"--separate-git-dir={place}-elsewhere")


def with_an_index_in_parts(origin: Path, place: Path) -> Path:
    project = clone(origin, place)
    for word in ("--split-index", "--untracked-cache", "--index-version=4"):
        git(place, "update-index", word)
    return project


def with_touched_files(origin: Path, place: Path) -> Path:
    project = clone(origin, place)
    for path in project.rglob("*.py"):
        os.utime(path, (1, 1))
    return project


def with_replaced_history(origin: Path, place: Path) -> Path:
    project = clone(origin, place)
    git(place, "replace", "--graft", "HEAD")
    return project


def packed(origin: Path, place: Path) -> Path:
    project = clone(origin, place)
    git(place, "gc", "--quiet")
    git(place, "commit-graph", "write", "--reachable")
    return project


KINDS = [
    as_a_work_tree, as_a_submodule, with_a_submodule, sparse, sparse_with_a_sparse_index, sparse_and_partial,
    treeless, shallow, with_borrowed_objects, with_its_folder_elsewhere, with_an_index_in_parts,
    with_touched_files, with_replaced_history, packed,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_comes_to_the_same_in_every_kind_of_repository(
    kind: Callable[[Path, Path], Path],
    origin: Path,
    templates: Templates,
    expected: Expected,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = expected.get(capsys)
    project = kind(origin, tmp_path / "top")
    assert_same(outcomes(project, templates, capsys), wanted)
    assert "dropped-edits.patch" in come_back(project)


def come_back(project: Path) -> str:
    """Go back as `update` says; what is left is what git does not know."""
    git(project, "restore", "--source=HEAD", "--staged", "--worktree", "--", ".")
    return git(project, "status", "--porcelain", "--ignore-submodules=all", "--", ".")


def test_a_repository_with_longer_hashes_is_updated(
    origin: Path, templates: Templates, tmp_path: Path, capsys: pytest.CaptureFixture[str], expected: Expected
) -> None:
    project = clone(origin, tmp_path / "top")
    shutil.rmtree(tmp_path / "top/.git")
    git(tmp_path / "top", "init", "--quiet", "--object-format=sha256")
    commit(tmp_path / "top")
    came = outcomes(project, templates, capsys)
    for ours, theirs in zip(came, expected.get(capsys), strict=True):
        assert ours.plan == theirs.plan
        assert len(ours.staged.split()[1]) == 64
        assert ours.files.keys() == theirs.files.keys()
        assert all(text == theirs.files[name] for name, text in ours.files.items() if ".patch" not in name)
