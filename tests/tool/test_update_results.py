"""What `update` and `set` leave, say and refuse: patches, layouts, packages, folders of others, odd names."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlscaffold.catalogue.questions import read
from mlscaffold.errors import MlscaffoldError, ProjectError
from mlscaffold.kits.find import find_kit
from mlscaffold.releases.fetch import Templates
from mlscaffold.releases.own import SOURCE, template_root
from mlscaffold.rendering.render import render
from mlscaffold.rendering.target import write
from mlscaffold.system.git import git as guarded_git
from mlscaffold.system.git import run_git
from mlscaffold.update.apply import apply
from mlscaffold.update.command import print_diff
from mlscaffold.update.plan import plan_change, plan_update
from tests.support.command import mlscaffold, refused
from tests.support.releases import clean_settings, commit, git

OLD, NEW = "v0.5.0", "v0.7.3"  # fixed, as later releases move the files that are edited here


@pytest.fixture(scope="module")
def templates() -> Iterator[Templates]:
    with Templates() as opened:
        yield opened


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in clean_settings().items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)


def project(folder: Path, templates: Templates, tag: str = OLD, **answers: str) -> Path:
    write(render({"project": "digits", **answers}, templates.root(SOURCE, tag), tag), folder)
    return folder


def committed(folder: Path) -> Path:
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    return folder


@pytest.mark.cold
def test_in_a_sparse_folder_a_dropped_edit_comes_back_and_new_packages_are_named(
    templates: Templates, tmp_path: Path
) -> None:
    digits = project(tmp_path / "services/digits", templates, strategy="ddp")
    with (digits / "tests/test_processes.py").open("a") as file:
        file.write("# mine\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("one\n")
    committed(tmp_path)
    git(tmp_path, "sparse-checkout", "set", "services/digits")

    ran = mlscaffold("set", "strategy=single", "loggers=wandb", "--yes", cwd=digits)

    assert ran.code == 0, ran.err
    assert "  added    wandb" in ran.out
    assert "Other packages are needed than before. Install them: `uv sync --extra dev`" in ran.out
    git(tmp_path, "add", "services/digits/dropped-edits.patch")
    git(tmp_path, "commit", "--quiet", "--message=Single")
    apply(plan_change(digits, ["strategy=ddp"], templates))
    assert "# mine" not in (digits / "tests/test_processes.py").read_text()
    git(digits, "apply", "dropped-edits.patch")
    assert (digits / "tests/test_processes.py").read_text().endswith("# mine\n")
    assert git(tmp_path, "ls-files", "other") == "other/file"


def test_packages_are_named_only_when_others_are_needed(templates: Templates, tmp_path: Path) -> None:
    digits = committed(project(tmp_path / "digits", templates, strategy="ddp"))
    assert plan_change(digits, ["strategy=single"], templates).packages == {"added": [], "removed": []}
    told = plan_change(digits, ["loggers=none"], templates).packages
    assert told is not None
    assert [line.split(">")[0] for line in told["removed"]] == ["tensorboard"]
    (digits / "pyproject.toml").write_text("not = [toml")
    commit(digits)
    assert plan_update(digits, NEW, templates).packages is None


def test_a_project_that_was_laid_out_anew_is_updated_without_conflicts(
    templates: Templates, tmp_path: Path
) -> None:
    """As one's own formatter does: lines of 100 columns, other quotes; and an edit in each of these files."""
    digits = committed(project(tmp_path / "digits", templates))
    own = ("--isolated", "--line-length", "100", "--config", 'format.quote-style="single"')
    format_command = [sys.executable, "-m", "ruff", "format", "--quiet", *own]
    subprocess.run([*format_command, digits], check=True)
    for name in ("train", "optim"):
        with (digits / f"src/digits/{name}.py").open("a") as file:
            file.write("\n\ndef mine():\n    pass\n")
    commit(digits)

    plan = plan_update(digits, NEW, templates)

    assert not plan.conflicts
    assert "src/digits/optim.py" in plan.merged.relaid
    apply(plan)
    subprocess.run([*format_command, digits], check=True)
    fresh = project(tmp_path / "fresh", templates, NEW)
    subprocess.run([*format_command, fresh], check=True)
    for name in plan.files:
        mine = "\n\ndef mine():\n    pass\n" if name.endswith(("train.py", "optim.py")) else ""
        assert (digits / name).read_text() == (fresh / name).read_text() + mine


def test_another_meaning_on_the_same_lines_is_still_a_conflict(templates: Templates, tmp_path: Path) -> None:
    digits = committed(project(tmp_path / "digits", templates))
    loggers = digits / "src/digits/loggers.py"
    loggers.write_text(loggers.read_text().replace('name="", version', "name='mine', version"))
    commit(digits)
    plan = plan_update(digits, NEW, templates)
    assert list(plan.conflicts) == ["src/digits/loggers.py"]


def test_a_difference_of_files_in_any_encoding_is_what_git_apply_takes(
    templates: Templates, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    digits = committed(project(tmp_path / "digits", templates))
    signals = digits / "src/digits/signals.py"
    signals.write_bytes(signals.read_bytes().replace(b"CODES = {", b"# Gr\xf6\xdfe \x1b[2J\nCODES = {", 1))
    commit(digits)
    plan = plan_update(digits, NEW, templates)
    capfdbinary.readouterr()
    print_diff(plan)
    sys.stdout.flush()
    (tmp_path / "patch").write_bytes(capfdbinary.readouterr().out)
    assert b"# Gr\xf6\xdfe \x1b[2J" in (tmp_path / "patch").read_bytes()
    git(digits, "apply", str(tmp_path / "patch"))
    applied = {name: (digits / name).read_bytes() for name in plan.files if (digits / name).is_file()}
    git(digits, "reset", "--quiet", "--hard")
    git(digits, "clean", "--quiet", "--force", "-d")  # of files that the patch added
    apply(plan)
    assert applied == {name: (digits / name).read_bytes() for name in applied}


@pytest.mark.cold
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_of_another_owner_is_told_in_gits_words(templates: Templates, tmp_path: Path) -> None:
    digits = committed(project(tmp_path / "digits", templates))
    for path in (digits, *digits.rglob("*")):
        os.chown(path, 1234, 1234, follow_symlinks=False)
    remedy = f"git config --global --add safe.directory {digits}"
    said = refused("update", "--yes", cwd=digits, code=1)
    assert "detected dubious ownership" in said
    assert said.rstrip().endswith(remedy)
    changes = {found["what"]: found for found in json.loads(mlscaffold("doctor", "--json", cwd=digits).out)}[
        "changes"
    ]
    assert changes["state"] == "broken"
    assert changes["text"].endswith(remedy)


def test_a_failure_names_the_command_of_git_and_gives_its_words(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    with pytest.raises(MlscaffoldError, match=r"^`git rev-parse` failed: Needed a single revision\.$"):
        run_git(tmp_path, "rev-parse", "--verify", "HEAD")
    (tmp_path / ".git/config").write_text("[broken\n")
    with pytest.raises(MlscaffoldError, match=r"^`git status` failed: bad config line 1 in file .*config\.$"):
        run_git(tmp_path, "status")


def test_git_is_never_that_of_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/OWNED\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}{os.environ['PATH']}")
    assert guarded_git(tmp_path, "--version").stdout.startswith("git version ")
    assert not (tmp_path / "OWNED").exists()


ODD = [
    "--output=OWNED", "-h", "HEAD:kit.yml", "main@{0}", "HEAD^{/Change}", ":/Change", "v1..v2", "a b", "",
    "/", "--end-of-options", "v1\nv2",
]  # fmt: skip


def test_a_release_with_the_name_of_an_option_or_an_expression_is_none(
    templates: Templates, tmp_path: Path
) -> None:
    template = tmp_path / "template"
    shutil.copytree(templates.root(SOURCE, OLD), template)
    source = f"git+{committed(template).as_uri()}"
    for name in ODD:
        with pytest.raises(ProjectError, match="has no release"):
            templates.check(source, name)
    digits = project(tmp_path / "digits", templates)
    answers = digits / ".copier-answers.yml"
    for old, new in ((SOURCE, source), (f"_commit: {OLD}", f"_commit: {ODD[0]}")):
        assert old in answers.read_text()
        answers.write_text(answers.read_text().replace(old, new))
    committed(digits)
    with pytest.raises(ProjectError, match=f"has no release {ODD[0]}"):
        plan_update(digits, None, templates)
    assert not list(tmp_path.rglob("OWNED*"))


@pytest.mark.parametrize(
    "address", ["--upload-pack=touch OWNED", "-c", "ssh://-oProxyCommand=touch%20OWNED/x"]
)
def test_an_address_with_the_name_of_an_option_is_none(
    address: str, templates: Templates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MlscaffoldError, match=r"cannot fetch the template|is no folder|begins with '-'"):
        find_kit(f"git+{address}", read(template_root()), templates)
    assert not (tmp_path / "OWNED").exists()


def test_a_tag_with_the_name_of_an_option_is_passed_over(templates: Templates, tmp_path: Path) -> None:
    template = tmp_path / "template"
    shutil.copytree(templates.root(SOURCE, OLD), template)
    committed(template)
    git(template, "tag", "v1.0.0")
    git(template, "update-ref", "refs/tags/-9.0", "HEAD")
    git(template, "update-ref", "refs/heads/v1.0.0", "HEAD")  # a tag goes first
    assert templates.newest(template.as_uri(), "") == "v1.0.0"
    assert templates.releases(template.as_uri()) == ["v1.0.0"]
    assert (templates.root(template.as_uri(), "v1.0.0") / "copier.yml").is_file()


def test_a_template_is_read_as_it_is_committed(
    templates: Templates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "template"
    template.mkdir()
    (template / ".gitattributes").write_text("left export-ignore\nname export-subst\nup filter=up\n")
    for name, text in (
        ("left", "one\n"),
        ("name", "$Format:%H$\n"),
        ("up", "up\n"),
        ("copier.yml", "a: b\n"),
    ):
        (template / name).write_text(text)
    committed(template)
    (tmp_path / "settings").write_text(
        f'[core]\nautocrlf = true\n[filter "up"]\nsmudge = touch {tmp_path}/OWNED\n[tar]\numask = 0777\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    root = templates.root(template.as_uri(), git(template, "rev-parse", "HEAD"))
    for name in ("left", "name", "up", "copier.yml"):
        assert (root / name).read_bytes() == (template / name).read_bytes()
    assert not (tmp_path / "OWNED").exists()


def test_a_template_whose_files_are_in_git_lfs_is_refused(templates: Templates, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"
    )
    committed(tmp_path)
    with pytest.raises(MlscaffoldError, match=r"picture\.png is in Git LFS"):
        templates.root(tmp_path.as_uri(), git(tmp_path, "rev-parse", "HEAD"))
