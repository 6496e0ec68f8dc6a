"""`mlscaffold update`, `set` and `diff`: what they refuse, what they say, what they leave."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest

from tests.support.command import CTRL_C, terminal
from tests.support.proofs import once_for_all
from tests.support.releases import Environment, commit, git, run

Change = Callable[[Path], None]


@pytest.fixture(scope="session")
def made(old: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        old.run("mlscaffold", "new", "digits", "--ddp", "--yes", cwd=folder)

    return once_for_all(tmp_path_factory, "made-by-us", make) / "digits"


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of a project of 0.1.0, with two processes, committed."""
    return shutil.copytree(made, tmp_path / "digits", symlinks=True)


def edit(project: Path, name: str, old: str, new: str) -> None:
    path = project / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def files(project: Path) -> dict[str, bytes]:
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and ".git/" not in path.as_posix()
    }


def test_an_update_brings_the_templates_change_and_keeps_the_edit(new: Environment, project: Path) -> None:
    edit(project, "NOTES.md", "third", "THIRD")  # the line below the one that the template changed
    commit(project)

    said = new.run("mlscaffold", "update", "--yes", cwd=project)

    assert ".copier-answers.yml: v0.1.0 -> v0.2.0" in said
    assert (project / "NOTES.md").read_text() == "first\nSECOND\nTHIRD\nfourth\nfifth\n"
    assert git(project, "status", "--porcelain").split() == ["M", ".copier-answers.yml", "M", "NOTES.md"]
    commit(project)
    assert "Nothing to change." in new.run("mlscaffold", "update", cwd=project)


def test_it_works_where_git_does_not_find_the_remote_helper(new: Environment, project: Path) -> None:
    settings = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(new.home)}
    run(new.python, "-m", "mlscaffold", "update", "--yes", cwd=project, settings=settings)
    assert "SECOND" in (project / "NOTES.md").read_text()


def test_a_rehearsal_touches_nothing_and_says_what_would_happen(new: Environment, project: Path) -> None:
    edit(project, "NOTES.md", "second", "mine")
    edit(project, "tests/test_processes.py", '"""', '"""Mine. ')
    commit(project)
    before = files(project)

    told = json.loads(new.run("mlscaffold", "update", "--dry-run", "--json", cwd=project))
    assert told["files"] == {".copier-answers.yml": "changed", "NOTES.md": "changed"}
    assert told["conflicts"] == ["NOTES.md"]
    told = json.loads(new.run("mlscaffold", "set", "strategy=single", "--dry-run", "--json", cwd=project))
    assert told["dropped_edits"] == ["tests/test_processes.py"]
    said = new.run("mlscaffold", "diff", "--set", "precision=bf16", cwd=project)
    assert '+    precision: Literal["fp32", "bf16", "fp16"] = "bf16"' in said

    assert files(project) == before
    assert git(project, "status", "--porcelain") == ""


def test_conflicts_end_with_1_and_the_commands_to_finish_or_go_back(new: Environment, project: Path) -> None:
    edit(project, "NOTES.md", "second", "mine")
    commit(project)
    before = files(project)

    said = new.run("mlscaffold", "update", "--yes", cwd=project, code=1)

    assert "git add NOTES.md && git commit" in said
    assert (
        "<<<<<<< yours\nmine\n=======\nSECOND\n>>>>>>> template v0.2.0\n"
        in (project / "NOTES.md").read_text()
    )
    assert "UU NOTES.md" in git(project, "status", "--porcelain")
    again = new.run("mlscaffold", "update", "--yes", cwd=project, code=1)
    assert "Not committed:" in again
    [back] = [line for line in said.splitlines() if line.startswith("To go back: ")]
    run(*back.removeprefix("To go back: ").split(), cwd=project)
    assert files(project) == before
    assert git(project, "status", "--porcelain") == ""


def test_an_edit_to_a_file_that_goes_is_kept_as_a_patch(
    new: Environment, project: Path, tmp_path: Path
) -> None:
    run("git", "clone", "--quiet", project, tmp_path / "clone", cwd=tmp_path)
    edit(project, "tests/test_processes.py", '"""', '"""Mine. ')
    commit(project)

    said = new.run("mlscaffold", "set", "strategy=single", "--yes", cwd=project)

    assert not (project / "tests/test_processes.py").exists()
    git(tmp_path / "clone", "apply", str(project / "dropped-edits.patch"))
    assert '"""Mine. ' in (tmp_path / "clone/tests/test_processes.py").read_text()
    [back] = [line.strip() for line in said.splitlines() if line.startswith("  git checkout")]
    run(*back.split(), cwd=project)
    assert '"""Mine. ' in (project / "tests/test_processes.py").read_text()


def test_what_a_user_deleted_stays_deleted(new: Environment, project: Path) -> None:
    (project / "NOTES.md").unlink()
    commit(project)
    said = new.run("mlscaffold", "update", "--yes", cwd=project)
    assert "you deleted it; it stays deleted" in said
    assert not (project / "NOTES.md").exists()


def test_a_change_of_the_template_follows_a_file_that_a_user_renamed(new: Environment, project: Path) -> None:
    git(project, "mv", "NOTES.md", "docs.md")
    commit(project)
    new.run("mlscaffold", "update", "--yes", cwd=project)
    assert "SECOND" in (project / "docs.md").read_text()


def test_a_list_grows_and_shrinks_by_names(new: Environment, project: Path) -> None:
    new.run("mlscaffold", "set", "loggers-=tensorboard", "--yes", cwd=project)
    assert "loggers: []" in (project / ".copier-answers.yml").read_text()
    commit(project)
    new.run("mlscaffold", "set", "loggers+=tensorboard", "--yes", cwd=project)
    assert "- tensorboard" in (project / ".copier-answers.yml").read_text()


def test_reasons_for_a_framework_go_with_it(new: Environment, tmp_path: Path) -> None:
    new.run("mlscaffold", "new", "digits", "--because", "Events suit us.", "--yes", cwd=tmp_path)
    readme = tmp_path / "digits/README.md"
    assert "Events suit us." in readme.read_text()
    new.run("mlscaffold", "set", "precision=bf16", "--yes", cwd=tmp_path / "digits")
    assert "Events suit us." in readme.read_text()
    commit(tmp_path / "digits")
    new.run("mlscaffold", "set", "framework=ignite", "--yes", cwd=tmp_path / "digits")
    assert "## Why" not in readme.read_text()


def test_the_other_framework_keeps_the_edits_to_model_data_and_settings(
    new: Environment, project: Path
) -> None:
    for name in ("src/digits/task/model.py", "src/digits/task/data.py", "configs/default.yaml"):
        edit(project, name, "\n", "\n# mine\n")
    commit(project)
    new.run("mlscaffold", "set", "framework=ignite", "--yes", cwd=project)
    for name in ("src/digits/task/model.py", "src/digits/task/data.py", "configs/default.yaml"):
        assert "# mine\n" in (project / name).read_text()
    assert "from ignite" in (project / "src/digits/training/engine.py").read_text()


def test_a_project_in_a_folder_of_a_larger_repository_is_changed_alone(
    old: Environment, new: Environment, tmp_path: Path
) -> None:
    git(tmp_path, "init", "--quiet")
    old.run("mlscaffold", "new", "services/digits", "--yes", cwd=tmp_path)
    (tmp_path / "other").write_text("first\n")
    commit(tmp_path)
    (tmp_path / "other").write_text("not committed\n")
    project = tmp_path / "services/digits"

    new.run("mlscaffold", "update", "--yes", cwd=project)

    assert "SECOND" in (project / "NOTES.md").read_text()
    assert (tmp_path / "other").read_text() == "not committed\n"
    assert git(tmp_path, "status", "--porcelain").splitlines() == [
        "M other",
        "M  services/digits/.copier-answers.yml",
        "M  services/digits/NOTES.md",
    ]


def test_a_shallow_clone_can_be_updated(new: Environment, project: Path, tmp_path: Path) -> None:
    commit_another = "--allow-empty"
    git(project, "commit", "--quiet", commit_another, "--message", "More")
    run("git", "clone", "--quiet", "--depth=1", project.as_uri(), "shallow", cwd=tmp_path)
    new.run("mlscaffold", "update", "--yes", cwd=tmp_path / "shallow")
    assert "SECOND" in (tmp_path / "shallow/NOTES.md").read_text()


def no_repository(project: Path) -> None:
    (project / ".git").rename(project.parent / "gone")


def dirty(project: Path) -> None:
    edit(project, "NOTES.md", "fourth", "FOURTH")


def in_a_merge(project: Path) -> None:
    git(project, "checkout", "--quiet", "-b", "other")
    dirty(project)
    commit(project)
    git(project, "checkout", "--quiet", "-")
    edit(project, "NOTES.md", "fourth", "4th")
    commit(project)
    run("git", "merge", "other", cwd=project, code=1)


def of_no_release(project: Path) -> None:
    edit(project, ".copier-answers.yml", "_commit: v0.1.0\n", "")
    commit(project)


def of_a_later_release(project: Path) -> None:
    edit(project, ".copier-answers.yml", "v0.1.0", "v0.3.0")
    commit(project)


def no_answers(project: Path) -> None:
    (project / ".copier-answers.yml").unlink()


def broken_answers(project: Path) -> None:
    (project / ".copier-answers.yml").write_text("a: [")


REFUSED = [
    (no_repository, "is in no git repository, so nothing could be undone. Run `git init"),
    (dirty, "Not committed: 'NOTES.md'. Commit or stash it first."),
    (in_a_merge, "Git is in the middle of something here (MERGE_HEAD). End it first: git merge --continue"),
    (of_no_release, "names no release of a template"),
    (of_a_later_release, "0.2.0, does not know the release v0.3.0, only v0.1.0, v0.2.0. Upgrade mlscaffold"),
    (no_answers, "holds no .copier-answers.yml. Go to the folder of a project"),
    (broken_answers, "is not YAML"),
]


@pytest.mark.parametrize(("spoil", "reason"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_could_not_be_undone_is_refused_in_a_line(
    new: Environment, project: Path, spoil: Change, reason: str
) -> None:
    spoil(project)
    before = files(project)
    for verb in (["update", "--yes"], ["set", "precision=bf16", "--yes"], ["diff"]):
        said = new.run("mlscaffold", *verb, cwd=project, code=1)
        assert reason in said
        assert len(said.splitlines()) == 1
    assert files(project) == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["strategy=dpp"], "strategy=dpp: 'dpp' is not offered"),
        (["frmework=ignite"], "Did you mean framework?"),
        (["precision"], "Write KEY=VALUE"),
        (["precision+=bf16"], "precision is no list"),
        (["project=a b"], "is no project name"),
    ],
)
def test_a_wrong_answer_is_refused_in_a_line(
    new: Environment, project: Path, words: list[str], reason: str
) -> None:
    said = new.run("mlscaffold", "set", *words, cwd=project, code=2)
    assert reason in said
    assert git(project, "status", "--porcelain") == ""


def test_a_file_that_git_does_not_know_is_never_overwritten(new: Environment, project: Path) -> None:
    new.run("mlscaffold", "set", "strategy=single", "--yes", cwd=project)
    commit(project)
    (project / "tests/test_processes.py").write_text("mine")
    said = new.run("mlscaffold", "set", "strategy=ddp", "--yes", cwd=project, code=1)
    assert "tests/test_processes.py: the template adds a file where git does not know yours" in said
    assert (project / "tests/test_processes.py").read_text() == "mine"
    assert git(project, "status", "--porcelain") == "?? tests/test_processes.py"


def test_an_update_never_goes_back(new: Environment, project: Path) -> None:
    new.run("mlscaffold", "update", "--yes", cwd=project)
    commit(project)
    said = new.run("mlscaffold", "update", "--to", "0.1.0", cwd=project, code=1)
    assert "v0.1.0 is older than v0.2.0" in said


def test_a_project_that_follows_a_git_address_is_updated_from_there(
    old: Environment, project: Path, two_releases: object
) -> None:
    address = f"git+{two_releases.repository.as_uri()}"  # type: ignore[attr-defined]
    edit(project, ".copier-answers.yml", "git+mlscaffold::default", address)
    commit(project)
    old.run("mlscaffold", "update", "--yes", cwd=project)  # the package has 0.1.0 only
    assert "SECOND" in (project / "NOTES.md").read_text()
    assert address in (project / ".copier-answers.yml").read_text()


@pytest.mark.parametrize(
    ("key", "code", "told"),
    [
        (CTRL_C, 130, "mlscaffold: Stopped at a question. Nothing was changed."),
        ("n\r", 1, "mlscaffold: Not confirmed. Nothing was changed."),
    ],
)
def test_what_is_not_confirmed_on_a_terminal_changes_nothing(
    new: Environment, project: Path, key: str, code: int, told: str
) -> None:
    before = files(project)
    child = terminal("update", cwd=project, python=new.python)
    child.expect_exact("Apply this? [y/N]: ")
    child.send(key)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == code
    assert child.before.splitlines()[-1] == told
    assert files(project) == before
    assert git(project, "status", "--porcelain") == ""
