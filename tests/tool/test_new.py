"""`mlscaffold new`: a whole project in its place, or nothing."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from uv import find_uv_bin

from mlscaffold import __version__
from mlscaffold.catalogue.questions import Answer
from mlscaffold.catalogue.words import flag_words
from mlscaffold.errors import TargetError, ToolError
from mlscaffold.new.installation import train
from mlscaffold.rendering import target
from mlscaffold.rendering.render import render
from tests.conftest import RenderProject
from tests.support.command import mlscaffold, refused
from tests.support.projects import CATALOGUE
from tests.support.releases import git


def answers_of(project: Path) -> dict[str, object]:
    loaded = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def test_one_line_without_a_terminal_makes_the_project_that_it_says(tmp_path: Path) -> None:
    ran = mlscaffold("new", "--framework", "ignite", "--ddp", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    stored = answers_of(tmp_path / "my-project")
    assert (stored["framework"], stored["strategy"], stored["package"]) == ("ignite", "ddp", "my_project")


def test_the_folder_holds_what_the_renderer_says_and_one_clean_commit(tmp_path: Path) -> None:
    assert mlscaffold("new", "digits", cwd=tmp_path).code == 0
    project = tmp_path / "digits"
    assert tree(project) == {name: file.content for name, file in render({"project": "digits"}).items()}
    assert git(project, "status", "--porcelain", "--ignored") == ""
    assert git(project, "log", "--format=%s %an", "main") == f"Start from mlscaffold {__version__} tester"
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_the_end_tells_how_to_make_the_project_again_and_that_does(tmp_path: Path) -> None:
    description = 'It\'s "so":\n{{ x }} $HOME `ls` 猫'
    first = mlscaffold(
        "new", "a", "--loggers", "none", "--ddp", "--description", description, "--package=q", cwd=tmp_path
    )
    command = first.out.partition("To make it again: ")[2].partition("\n\nNext:")[0]
    made = tree(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    assert "--yes --package q --description" in command
    assert "--framework" not in command

    arguments = command.replace("mlscaffold", f"{sys.executable} -m mlscaffold", 1)
    subprocess.run(["bash", "-c", arguments], cwd=tmp_path, check=True, capture_output=True)

    assert tree(tmp_path / "a") == made
    assert answers_of(tmp_path / "a")["description"] == description


@pytest.mark.parametrize("everything", [False, True])
def test_the_end_counts_all_files_and_fits_a_screen(tmp_path: Path, everything: bool) -> None:
    last, taken = [], dict[str, Answer]()
    for question in (question for question in CATALOGUE.questions if len(question.values) > 1):
        answers = [{**taken, question.name: value} for value in question.values]
        taken = [given for given in answers if not CATALOGUE.objections(given)][-1]
        last.append((question, taken[question.name]))
    flags = [word for question, answer in last for word in flag_words(question, answer)] if everything else []
    said = mlscaffold("new", "digits", *flags, cwd=tmp_path).out.splitlines()
    assert sum(-(-max(len(line), 1) // 80) for line in said) < 24  # with the line of the command
    counts = dict(re.findall(r"^  (\S+/) +(\d+) files?", "\n".join(said), re.MULTILINE))
    files = list(tree(tmp_path / "digits"))
    assert int(counts.pop("./")) == sum("/" not in name for name in files)
    assert {folder: int(count) for folder, count in counts.items()} == {
        folder: sum(name.startswith(folder) for name in files) for folder in counts
    }
    assert {name.partition("/")[0] for name in files if "/" in name} == {
        name.split("/")[0] for name in counts
    }


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        (["--loggers=none"], ["python -m d.train"]),
        (["--ddp"], ["torchrun --nproc-per-node 2 -m d.train", "tensorboard --logdir runs"]),
        (
            ["--loggers=mlflow", "--hpo=optuna", "--serving=litserve"],
            [
                "python -m d.train",
                "mlflow ui --backend-store-uri sqlite:///runs/0001/mlflow.db",
                "python -m d.tune --trials 20",
                "python -m d.export",
                "python -m d.serve --port 8000",
            ],
        ),
    ],
)
@pytest.mark.parametrize("uv", [False, True])
def test_the_next_steps_are_those_of_the_answers(
    tmp_path: Path, flags: list[str], steps: list[str], uv: bool
) -> None:
    path = "/usr/bin:/bin"
    if uv:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/uv").symlink_to(find_uv_bin())
        path = f"{tmp_path / 'bin'}:{path}"
    ran = mlscaffold("new", "my digits", "--project", "d", *flags, cwd=tmp_path, PATH=path)
    found = [line.strip() for line in ran.out.partition("Next:\n")[2].splitlines()]
    install = ["python -m venv .venv && . .venv/bin/activate", "pip install -e '.[dev]'"]
    if uv:
        install, steps = ["uv sync --extra dev"], [f"uv run {step}" for step in steps]
    assert found == ["cd 'my digits'", *install, *steps]
    readme = (tmp_path / "my digits/README.md").read_text()
    for step in steps:
        assert step.removeprefix("uv run ") in readme


def test_an_existing_empty_folder_becomes_the_project_and_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir(mode=0o700)
    assert mlscaffold("new", ".", cwd=tmp_path / "digits").code == 0
    assert answers_of(tmp_path / "digits")["project"] == "digits"
    assert stat.S_IMODE((tmp_path / "digits").stat().st_mode) == 0o700


def test_folders_above_are_made(tmp_path: Path) -> None:
    assert mlscaffold("new", "a/b/digits", cwd=tmp_path).code == 0
    assert (tmp_path / "a/b/digits/pyproject.toml").is_file()


def test_modes_are_those_of_the_umask(tmp_path: Path) -> None:
    mlscaffold("new", "digits", "--no-git", cwd=tmp_path, umask=0o027)
    for path in [tmp_path / "digits", *(tmp_path / "digits").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640)


def test_an_executable_file_may_be_run_by_those_who_may_read_it(tmp_path: Path) -> None:
    files = render({})
    name = next(iter(files))
    target.write({name: type(files[name])(b"", executable=True)}, tmp_path)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) in (0o755, 0o775, 0o700, 0o750)


def fill(folder: Path) -> None:
    (folder / "digits").mkdir()
    (folder / "digits/mine").write_text("mine")


def put_a_file(folder: Path) -> None:
    (folder / "digits").write_text("mine")


def link_to_nothing(folder: Path) -> None:
    (folder / "digits").symlink_to("nowhere")


@pytest.mark.parametrize(
    ("prepare", "dest", "wrong"),
    [
        (fill, "digits", "digits exists and is not empty. Choose another folder, or empty it."),
        (put_a_file, "digits", "digits exists and is no folder"),
        (put_a_file, "digits/a", "is no folder"),
        (link_to_nothing, "digits", "digits exists and is no folder"),
        (fill, "x" * 300, "File name too long"),
    ],
)
def test_a_taken_target_is_refused_and_untouched(
    tmp_path: Path, prepare: object, dest: str, wrong: str
) -> None:
    assert callable(prepare)
    prepare(tmp_path)
    before = tree(tmp_path), sorted(tmp_path.iterdir())
    assert wrong in refused("new", dest, "--project", "digits", cwd=tmp_path, code=1, lines=1)
    assert wrong in refused("new", dest, "--project", "digits", "--dry-run", cwd=tmp_path, code=1, lines=1)
    assert (tree(tmp_path), sorted(tmp_path.iterdir())) == before


def test_a_place_that_takes_no_files_is_refused(tmp_path: Path) -> None:
    """/proc refuses root too, whom modes do not stop."""
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc here")
    said = refused("new", "/proc/digits", cwd=tmp_path, code=1, lines=1)
    assert "/proc/digits cannot be" in said
    assert "Choose another place." in said


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_whatever_goes_wrong_while_writing_nothing_is_left(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def fail() -> None:
        with target.staged(tmp_path / "a/b/digits") as staging:
            target.write(render({}), staging)
            raise error

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: writing fails in the same way."""
    script = f"ulimit -f 1; exec {sys.executable} -m mlscaffold new a/digits"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "mlscaffold: a/digits cannot be written: File too large. Choose another place.\n"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_fills_up_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot be written"), target.staged(tmp_path / "digits"):
        fill(tmp_path)
    assert tree(tmp_path) == {"digits/mine": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_of_two_at_once_one_wins(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        ran = list(pool.map(lambda _: mlscaffold("new", "digits", cwd=tmp_path), range(2)))
    assert sorted(each.code for each in ran) == [0, 1]
    assert git(tmp_path / "digits", "status", "--porcelain") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_a_dry_run_shows_the_files_and_writes_none(tmp_path: Path) -> None:
    ran = mlscaffold("new", "digits", "--dry-run", cwd=tmp_path)
    files = render({"project": "digits"})
    assert ran.code == 0
    for name, file in files.items():
        assert f"{name.split('/')[-1]}  {len(file.content):,} bytes" in ran.out
    assert f"{len(files)} files" in ran.out
    assert "Nothing was written." in ran.out
    assert not list(tmp_path.iterdir())


def test_json_is_one_object_and_all_else_goes_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "outer/.git").mkdir(parents=True)
    ran = mlscaffold("new", "digits", "--json", "--framework=ignite", cwd=tmp_path / "outer")
    told = json.loads(ran.out)
    project = tmp_path / "outer/digits"
    assert (told["path"], told["written"]) == (str(project), True)
    assert told["answers"] == {key: value for key, value in answers_of(project).items() if key[0] != "_"}
    assert told["files"] == {name: len(content) for name, content in tree(project).items()}
    assert told["command"] == "mlscaffold new digits --yes --framework ignite"
    assert ran.err == f"Note: {told['note']}\n"
    assert json.loads(mlscaffold("new", "x", "--json", "--dry-run", cwd=tmp_path).out)["written"] is False


def test_letters_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    """A name in another encoding, as an old disk may hold it."""
    name = os.fsdecode(b"gr\xf6\xdfe")
    assert mlscaffold("new", name, "--project=digits", cwd=tmp_path).code == 0
    assert (tmp_path / name / "pyproject.toml").is_file()
    ran = mlscaffold("new", "other", "--description", name, cwd=tmp_path)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


def test_inside_a_repository_none_is_made(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    ran = mlscaffold("new", "a/digits", cwd=tmp_path)
    assert ran.code == 0
    assert f"{tmp_path} is a git repository already" in ran.err
    assert not (tmp_path / "a/digits/.git").exists()


def test_no_git_means_no_repository(tmp_path: Path) -> None:
    assert mlscaffold("new", "digits", "--no-git", cwd=tmp_path).err == ""
    assert not (tmp_path / "digits/.git").exists()


def test_where_git_is_missing_the_project_stands_and_a_note_says_so(tmp_path: Path) -> None:
    ran = mlscaffold("new", "digits", cwd=tmp_path, PATH=str(tmp_path))
    assert ran.code == 0
    assert "Note: git is not installed" in ran.err
    assert (tmp_path / "digits/pyproject.toml").is_file()


def test_where_git_knows_nobody_the_files_wait_for_their_commit(tmp_path: Path) -> None:
    ran = mlscaffold("new", "digits", cwd=tmp_path, without="GIT_", HOME=str(tmp_path))
    assert ran.code == 0
    assert "Set user.name and user.email" in ran.err
    staged = git(tmp_path / "digits", "diff", "--cached", "--name-only").splitlines()
    assert sorted(staged) == sorted(tree(tmp_path / "digits"))


def test_the_repository_of_a_surrounding_git_command_is_left_alone(tmp_path: Path) -> None:
    """As in a hook, or in `git rebase --exec`."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    before = sorted(path.name for path in (other / ".git").iterdir())
    ran = mlscaffold(
        "new", "digits", cwd=tmp_path,
        GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other), GIT_INDEX_FILE=str(other / ".git/index"),
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert git(tmp_path / "digits", "log", "--format=%s") == f"Start from mlscaffold {__version__}"
    assert sorted(path.name for path in (other / ".git").iterdir()) == before


def test_hooks_and_signing_of_the_user_do_not_stand_in_the_way(tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "commit-msg", "post-commit"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    (tmp_path / "config").write_text(
        f"[core]\nhooksPath = {hooks}\nexcludesFile = {tmp_path / 'ignored'}\n[commit]\ngpgSign = true\n"
        "[gpg]\nprogram = false\n[init]\ndefaultBranch = trunk\n"
    )
    (tmp_path / "ignored").write_text("*.toml\n.*\n")
    ran = mlscaffold("new", "digits", cwd=tmp_path, GIT_CONFIG_GLOBAL=str(tmp_path / "config"))
    assert (ran.code, ran.err) == (0, "")
    committed = git(tmp_path / "digits", "ls-tree", "-r", "--name-only", "main").splitlines()
    assert sorted(committed) == sorted(tree(tmp_path / "digits"))


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_without_a_network_the_project_stands_and_the_way_on_is_told(tmp_path: Path, installer: str) -> None:
    path = "/usr/bin:/bin" + (f":{Path(sys.executable).parent}" if installer == "uv" else "")
    closed = "http://127.0.0.1:9/simple"
    ran = mlscaffold(
        "new", "digits", "--install", cwd=tmp_path, PATH=path,
        PIP_INDEX_URL=closed, PIP_RETRIES="0", PIP_EXTRA_INDEX_URL="", PIP_CONFIG_FILE=os.devnull,
        UV_DEFAULT_INDEX=closed, UV_INDEX="", UV_NO_CONFIG="1", UV_HTTP_RETRIES="0",
        UV_CACHE_DIR=str(tmp_path / "cache"),
    )  # fmt: skip
    assert ran.code == 1
    last = ran.err.splitlines()[-1]
    assert "The project stands, but could not be installed" in last
    assert f"cd {tmp_path / 'digits'} && " in last or "cd digits && " in last
    assert (tmp_path / "digits/pyproject.toml").is_file()


def test_training_runs_in_the_environment_of_the_project(
    tmp_path: Path, render_project: RenderProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is that of these tests, so nothing is downloaded; a missing one is told."""
    project = render_project(tmp_path / "digits", project="digits")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ToolError, match="did not train"):
        train(project, "digits")
    (project / ".venv").symlink_to(sys.prefix)
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))
    train(project, "digits")
    assert (project / "runs/smoke/metrics.csv").is_file()
