"""Git's own settings in a folder of somebody else start no program, whatever command looks at the folder."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlscaffold.catalogue.questions import read
from mlscaffold.doctor import examine_project
from mlscaffold.errors import MlscaffoldError
from mlscaffold.kits.find import find_kit
from mlscaffold.releases.fetch import Templates
from mlscaffold.releases.own import SOURCE, template_root
from mlscaffold.rendering.render import render
from mlscaffold.rendering.target import write
from mlscaffold.update.apply import apply
from mlscaffold.update.command import print_diff, show
from mlscaffold.update.plan import plan_change, plan_update
from tests.support.command import mlscaffold
from tests.support.releases import clean_settings, commit, git, run

OLD, NEW = "v0.7.0", "v0.7.3"  # fixed, as later releases move the files that are named here

Arm = Callable[[Path, str], None]  # a repository, the program that must not run


@pytest.fixture(scope="module")
def templates() -> Iterator[Templates]:
    with Templates() as opened:
        yield opened


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a mark, and passes on what it is given."""
    program = tmp_path / "trap"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{tmp_path}/OWNED'\ncat\n")
    program.chmod(0o755)
    return program


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in clean_settings().items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)


def project(folder: Path, templates: Templates) -> Path:
    """A committed project of an older release."""
    write(render({"project": "digits"}, templates.root(SOURCE, OLD), OLD), folder)
    return committed(folder)


def kit(folder: Path) -> Path:
    """A committed kit."""
    (folder / "overlay").mkdir(parents=True)
    (folder / "kit.yml").write_text("name: acme\nmlscaffold: '>=0.1'\n")
    (folder / "copier.yml").write_text("_subdirectory: overlay\n_answers_file: .copier-answers.acme.yml\n")
    (folder / "overlay/{{ _copier_conf.answers_file }}.jinja").write_text(
        "{{ _copier_answers|to_nice_yaml }}"
    )
    (folder / "overlay/OWNERS").write_text("* @acme\n")
    return committed(folder)


def committed(folder: Path) -> Path:
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    return folder


def filters(folder: Path, program: str, name: str = "x", *where: str) -> None:
    for what in ("clean", "smudge", "process"):
        git(folder, "config", *where, f"filter.{name}.{what}", program)
    git(folder, "config", *where, f"filter.{name}.required", "true")
    attributes(folder, f"* filter={name}")


def attributes(folder: Path, line: str) -> None:
    (folder / ".git/info/attributes").write_text(f"{line}\n")


def fsmonitor(folder: Path, program: str) -> None:
    git(folder, "config", "core.fsmonitor", program)


def a_filter_with_an_odd_name(folder: Path, program: str) -> None:
    filters(folder, program, "a=b.clean")


def a_filter_that_is_included(folder: Path, program: str) -> None:
    git(folder, "config", "include.path", "more")
    filters(folder, program, "x", "--file", str(folder / ".git/more"))


def a_filter_of_the_work_tree(folder: Path, program: str) -> None:
    git(folder, "config", "extensions.worktreeConfig", "true")
    filters(folder, program, "x", "--worktree")


def diffs(folder: Path, program: str) -> None:
    for name in ("diff.external", "diff.x.command", "diff.x.textconv"):
        git(folder, "config", name, program)
    attributes(folder, "* diff=x")


def a_merge_driver(folder: Path, program: str) -> None:
    git(folder, "config", "merge.x.driver", program)
    git(folder, "config", "merge.default", "x")
    attributes(folder, "* merge=x")


def hooks(folder: Path, program: str) -> None:
    for name in (
        "post-index-change", "reference-transaction", "post-checkout", "pre-commit", "commit-msg",
        "post-commit", "fsmonitor-watchman", "post-merge", "pre-auto-gc", "prepare-commit-msg",
    ):  # fmt: skip
        (folder / ".git/hooks").mkdir(exist_ok=True)
        (folder / ".git/hooks" / name).symlink_to(program)


def other_hooks(folder: Path, program: str) -> None:
    hooks(folder, program)
    (folder / ".git/hooks").rename(folder / ".git/other")
    git(folder, "config", "core.hooksPath", str(folder / ".git/other"))


def other_programs(folder: Path, program: str) -> None:
    for name in (
        "core.pager", "core.editor", "core.sshCommand", "core.askPass", "core.gitProxy", "gpg.program",
        "gpg.ssh.program", "sequence.editor", "credential.helper", "core.alternateRefsCommand",
        "uploadpack.packObjectsHook", "interactive.diffFilter", "pager.diff", "pager.status",
    ):  # fmt: skip
        git(folder, "config", name, program)
    for name in ("commit.gpgSign", "tag.gpgSign", "log.showSignature"):
        git(folder, "config", name, "true")
    for name in ("status", "diff", "rev-parse", "ls-tree", "merge-tree", "config"):
        git(folder, "config", f"alias.{name}", f"!{program}")


def objects_elsewhere(folder: Path, program: str) -> None:
    """Some objects are missing, and git would fetch them from an address that is a program."""
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "evil",
        "remote.evil.promisor": "true",
        "remote.evil.partialCloneFilter": "blob:none",
        "remote.evil.url": f"ext::{program}",
        "protocol.ext.allow": "always",
    }.items():
        git(folder, "config", name, value)
    name = git(folder, "rev-parse", "HEAD:kit.yml" if (folder / "kit.yml").exists() else "HEAD:README.md")
    (folder / ".git/objects" / name[:2] / name[2:]).unlink()


def objects_by_ssh(folder: Path, program: str) -> None:
    objects_elsewhere(folder, program)
    for name, value in {"remote.evil.url": "ssh://evil/x", "core.sshCommand": program}.items():
        git(folder, "config", name, value)


def a_submodule(folder: Path, program: str) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (inner / "file").write_text("one\n")
    committed(inner)
    commit(folder)
    filters(inner, program)
    fsmonitor(inner, program)
    (inner / "file").write_text("two\n")


ARMS: list[Arm] = [
    fsmonitor, filters, a_filter_with_an_odd_name, a_filter_that_is_included, a_filter_of_the_work_tree,
    diffs, a_merge_driver, hooks, other_hooks, other_programs, objects_elsewhere, objects_by_ssh, a_submodule,
]  # fmt: skip


BROKEN = (objects_elsewhere, objects_by_ssh)


def touch(folder: Path) -> None:
    """Let git look into each file again."""
    for path in folder.rglob("*"):
        if path.is_file() and ".git/" not in path.as_posix():
            path.write_bytes(path.read_bytes())


def test_a_kit_with_a_repository_inside_is_refused_before_git_is_asked(
    trap: Path, tmp_path: Path, templates: Templates
) -> None:
    folder = kit(tmp_path / "kit")
    a_submodule(folder, str(trap))
    with pytest.raises(MlscaffoldError, match="a file of git's own"):
        find_kit(str(folder), read(template_root()), templates)
    assert_untouched(tmp_path)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm is not a_submodule])
def test_looking_at_a_kit_starts_no_program_of_its_repository(
    arm: Arm, trap: Path, tmp_path: Path, templates: Templates
) -> None:
    folder = kit(tmp_path / "kit")
    arm(folder, str(trap))
    touch(folder)
    found = find_kit(str(folder), read(template_root()), templates)
    assert found.commit == git_head(folder)
    if arm in BROKEN:
        with pytest.raises(MlscaffoldError, match="lazy fetching disabled"):
            templates.root(found.source, found.commit)
    elif found.commit:
        templates.root(found.source, found.commit)
    assert_untouched(tmp_path)


@pytest.mark.parametrize("arm", ARMS)
def test_no_command_in_a_project_starts_a_program_of_its_repository(
    arm: Arm, trap: Path, tmp_path: Path, templates: Templates
) -> None:
    folder = project(tmp_path / "digits", templates)
    arm(folder, str(trap))
    touch(folder)
    list(examine_project(read(template_root()), folder))
    try:
        print_diff(plan_change(folder, ["framework=ignite"], templates))
        apply(plan_update(folder, NEW, templates))
        assert f"_commit: {NEW}" in (folder / ".copier-answers.yml").read_text()
    except MlscaffoldError:
        assert arm in BROKEN
    assert_untouched(tmp_path)


def test_a_repository_buried_in_a_clone_is_a_folder_of_files(
    trap: Path, tmp_path: Path, templates: Templates
) -> None:
    buried = kit(tmp_path / "clone")
    for name in ("HEAD", "config", "objects", "refs", "index"):
        (buried / ".git" / name).rename(buried / name)
    shutil.rmtree(buried / ".git")
    with (buried / "config").open("a") as file:
        file.write(f"\tworktree = {buried}\n\tbare = false\n\tfsmonitor = {trap}\n")
    found = find_kit(str(buried), read(template_root()), templates)
    assert (found.name, found.commit) == ("acme", "")
    write(render({"project": "digits"}, templates.root(SOURCE, OLD), OLD), buried)
    [changes] = [f for f in examine_project(read(template_root()), buried) if f.what == "changes"]
    assert "cannot use bare repository" in changes.text
    with pytest.raises(MlscaffoldError, match="cannot use bare repository"):
        plan_update(buried, NEW, templates)
    assert_untouched(tmp_path)


@pytest.mark.cold
def test_what_a_user_types_starts_no_program_of_a_strangers_repository(
    trap: Path, tmp_path: Path, templates: Templates
) -> None:
    theirs, here = kit(tmp_path / "kit"), project(tmp_path / "digits", templates)
    for folder in (theirs, here):
        for arm in (fsmonitor, diffs, a_merge_driver, other_hooks, other_programs, filters):
            arm(folder, str(trap))
        attributes(folder, "* filter=x diff=x merge=x")
        touch(folder)
    assert "acme" in mlscaffold("kit", "show", theirs, cwd=tmp_path).out
    assert mlscaffold("new", "mine", "--kit", theirs, "--yes", cwd=tmp_path).code == 0
    assert "all committed" in mlscaffold("doctor", cwd=here).out
    assert "loggers.py" in mlscaffold("diff", "--to", NEW, cwd=here).out
    assert "loggers.py" in mlscaffold("update", "--to", NEW, "--dry-run", cwd=here).out
    assert_untouched(tmp_path)


def test_what_users_set_for_themselves_runs_where_the_repository_says_the_same(
    tmp_path: Path, templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with git-lfs: a filter of the user, which the repository names again."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "mine"))
    for where in (("--file", str(tmp_path / "mine")), ()):
        git(tmp_path, "init", "--quiet", "digits")
        asks = 'for name in lfs.extension.x.clean core.sshCommand; do sh -c "$(git config $name)"; done'
        ways = (("clean", f"tr a-z A-Z; {asks}"), ("smudge", f"tr A-Z a-z; {asks}"), ("required", "true"))
        for what, words in ways:
            git(tmp_path / "digits", "config", *where, f"filter.upper.{what}", words)
    write(render({"project": "digits"}, templates.root(SOURCE, OLD), OLD), tmp_path / "digits")
    attributes(tmp_path / "digits", "loggers.py filter=upper")
    settings = clean_settings() | {"GIT_CONFIG_GLOBAL": str(tmp_path / "mine")}
    run("git", "add", "--all", cwd=tmp_path / "digits", settings=settings)
    run("git", "commit", "--quiet", "--message=One", cwd=tmp_path / "digits", settings=settings)
    touch(tmp_path / "digits")
    for name in ("lfs.extension.x.clean", "core.sshCommand"):
        git(tmp_path / "digits", "config", name, f"touch {tmp_path}/OWNED")

    apply(plan_update(tmp_path / "digits", NEW, templates))

    stored = git(tmp_path / "digits", "show", ":src/digits/loggers.py")
    assert stored == stored.upper()
    assert "PURGE_STEP" in stored  # what the newer release brings
    assert (tmp_path / "digits/src/digits/loggers.py").read_text().strip() == stored.lower()
    assert_untouched(tmp_path)


# Templates of others that a project was made from


ANSWERS = "{{ _copier_answers|to_nice_yaml }}"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A template that a stranger's project names first, at release v1."""
    folder = tmp_path / "theirs"
    (folder / "files").mkdir(parents=True)
    (folder / "copier.yml").write_text("_subdirectory: files\nproject: {type: str, default: digits}\n")
    (folder / "files/{{ _copier_conf.answers_file }}.jinja").write_text(ANSWERS)
    return released(committed(folder), "v1.0.0")


def released(folder: Path, tag: str) -> Path:
    git(folder, "add", "--all")
    if git(folder, "status", "--porcelain"):
        commit(folder)
    git(folder, "tag", tag)
    return folder


def made_from(source: str, folder: Path) -> Path:
    folder.mkdir()
    stored = f"_commit: v1.0.0\n_src_path: {source}\nproject: digits\n"
    (folder / ".copier-answers.yml").write_text(stored)
    return committed(folder)


@pytest.mark.parametrize("where", ["victim", ".git", "../victim"])
def test_a_first_template_reads_no_folder_elsewhere(
    where: str, theirs: Path, tmp_path: Path, templates: Templates
) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/secret.txt").write_text("s3cr3t\n")
    here = made_from(f"git+{theirs.as_uri()}", tmp_path / "digits")
    place = str(tmp_path / "victim") if where == "victim" else where
    (theirs / "copier.yml").write_text(f"_subdirectory: {place}\nproject: {{type: str, default: digits}}\n")
    released(theirs, "v2.0.0")
    with pytest.raises(MlscaffoldError, match="_subdirectory is"):
        plan_update(here, None, templates)
    with pytest.raises(MlscaffoldError, match="_subdirectory is"):
        render({}, theirs)


@pytest.mark.parametrize("name", ["sitecustomize.py", "src/x.pth", "src/yaml/__init__.py", "uv.toml"])
def test_a_first_template_adds_nothing_that_programs_obey_unasked(
    name: str, theirs: Path, tmp_path: Path, templates: Templates
) -> None:
    here = made_from(f"git+{theirs.as_uri()}", tmp_path / "digits")
    (theirs / "files" / name).parent.mkdir(parents=True, exist_ok=True)
    (theirs / "files" / name).write_text("x\n")
    released(theirs, "v2.0.0")
    with pytest.raises(MlscaffoldError, match=f"writes {name}"):
        plan_update(here, None, templates)


def test_an_update_says_where_a_first_template_comes_from(
    theirs: Path, tmp_path: Path, templates: Templates, capsys: pytest.CaptureFixture[str]
) -> None:
    here = made_from(f"git+{theirs.as_uri()}", tmp_path / "digits")
    (theirs / "files/NOTES.md").write_text("x\n")
    released(theirs, "v2.0.0")
    show(plan_update(here, None, templates))
    said = capsys.readouterr().out
    assert f".copier-answers.yml: v1.0.0 -> v2.0.0  from git+{theirs.as_uri()}\n" in said
    assert "added    NOTES.md" in said


@pytest.mark.parametrize("text", ["_src_path: gh:evil/kit\n_commit: v2.0.0\n", None])
def test_a_newer_kit_does_not_send_later_updates_elsewhere(
    text: str | None, tmp_path: Path, templates: Templates
) -> None:
    theirs = released(kit(tmp_path / "kit"), "v1.0.0")
    here = project(tmp_path / "digits", templates)
    stored = f"_commit: v1.0.0\n_src_path: {theirs}\n"
    (here / ".copier-answers.acme.yml").write_text(stored)
    (here / "OWNERS").write_text("* @acme\n")
    commit(here)
    file = theirs / "overlay/{{ _copier_conf.answers_file }}.jinja"
    file.unlink() if text is None else file.write_text(text)
    (theirs / "overlay/MORE.md").write_text("x\n")
    released(theirs, "v2.0.0")
    with pytest.raises(MlscaffoldError, match=r"does not say where the kit came from|writes no \.copier"):
        plan_update(here, None, templates)


def git_head(folder: Path) -> str:
    return (folder / ".git/refs/heads/main").read_text().strip()


def assert_untouched(folder: Path) -> None:
    assert not (folder / "OWNED").exists(), (folder / "OWNED").read_text()
