"""The direct renderer writes what Copier writes; the matrix compares them for every combination."""

import ast
import tomllib
from pathlib import Path

import copier
import jinja2
import pytest
import yaml

from mlscaffold.catalogue.questions import Answer, Answers, read
from mlscaffold.errors import CatalogueError
from mlscaffold.rendering.render import ANSWERS_FILE, File, render
from tests.conftest import RenderProject
from tests.support.releases import commit, copy_repository, git

Tree = dict[str, tuple[bytes, bool]]

NASTY = [
    'It\'s "quoted" and ends in a backslash \\',
    "Two\nlines, a\ttab and\r\na Windows line",
    "{{ project }} {% raw %} {# comment #} ${{ x }} #: if y",
    "Größe, 猫, 🎉, e\u0301",
    "null",
    "yes: no # not a comment",
    "\"\"\"'''",
    "-",
    "- [a, b] & * ! | > %",
    " spaces around ",
    "long " * 60,
    "</script><b>",
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git clone of a commit of the working tree."""
    folder = tmp_path_factory.mktemp("template")
    git(folder, "clone", "--quiet", str(copy_repository(folder / "repository")), "clone")
    return folder / "clone"


def by_copier(clone: Path, answers: Answers, destination: Path) -> Tree:
    copier.run_copy(str(clone), destination, data=dict(answers), defaults=True, quiet=True, vcs_ref="HEAD")
    return tree(destination)


def tree(destination: Path) -> Tree:
    """What lies on the disk; a folder without files would be lost in git."""
    assert not [path for path in destination.rglob("*") if path.is_dir() and not any(path.iterdir())]
    return {
        path.relative_to(destination).as_posix(): (path.read_bytes(), bool(path.stat().st_mode & 0o111))
        for path in destination.rglob("*")
        if path.is_file()
    }


def by_us(clone: Path, answers: Answers) -> Tree:
    return {name: (file.content, file.executable) for name, file in render(answers, clone).items()}


def without_source(tree: Tree) -> Tree:
    """Drop what Copier and we say differently: from where, and which commit."""
    content, executable = tree[ANSWERS_FILE]
    lines = [line for line in content.splitlines() if not line.startswith((b"_src_path: ", b"_commit: "))]
    return {**tree, ANSWERS_FILE: (b"\n".join(lines), executable)}


@pytest.mark.parametrize("description", NASTY)
def test_free_text_gives_valid_files_the_same_as_copiers(
    clone: Path, tmp_path: Path, description: str
) -> None:
    answers: dict[str, Answer] = {"project": "A.b-c_9", "description": description, "framework": "ignite"}
    assert read(clone).objections(answers) == {}

    ours = by_us(clone, answers)

    assert without_source(ours) == without_source(by_copier(clone, answers, tmp_path / "project"))
    for name, (content, _) in ours.items():
        if name.endswith(".py"):
            ast.parse(content, name)
        elif name.endswith(".toml"):
            tomllib.loads(content.decode())
        elif name.endswith((".yaml", ".yml")):
            list(yaml.safe_load_all(content))
    assert yaml.safe_load(ours[ANSWERS_FILE][0])["description"] == description


def test_files_keep_what_is_no_template_and_what_is_executable(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "copier.yml").write_text(
        "_subdirectory: project\n"
        "_envops: {line_statement_prefix: '#:'}\n"
        "_exclude: [\"{% if size == 'small' %}/large{% endif %}\", '*.pyc', 'Z\u00fcrich']\n"
        "size: {type: str, default: small, choices: [small, large]}\n"
        "name: {type: str, default: x}\n"
    )
    (project / "verbatim.txt").write_bytes(b"{{ name }}\r\n\xff")
    (project / "run.sh.jinja").write_text("#!/bin/sh\necho {{ name }}\n")
    (project / "run.sh.jinja").chmod(0o755)
    (project / "both.txt").write_text("hidden by the template of the same name")
    (project / "both.txt.jinja").write_text("#: if size == 'small'\nsmall\n#: endif\nend\n\n")
    (project / "Zu\u0308rich").write_text("matches a pattern in another normal form\n")
    (project / "{% if name == 'y' %}{{ name }}.md{% endif %}").write_text("only for y\n")
    (project / "large/{{ name }}").mkdir(parents=True)
    (project / "large/{{ name }}/a.py").write_text("")
    (project / "large/b.pyc").write_text("")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)

    for number, answers in enumerate([{}, {"size": "large"}, {"name": "y", "size": "large"}]):
        assert by_us(tmp_path, answers) == by_copier(tmp_path, answers, tmp_path.parent / f"out{number}")
    assert set(by_us(tmp_path, {})) == {"verbatim.txt", "run.sh", "both.txt"}
    assert render({"size": "large"}, tmp_path)["run.sh"] == File(b"#!/bin/sh\necho x\n", executable=True)


def test_a_project_of_ours_names_its_source_and_its_release_alone(repository: Path) -> None:
    recorded = yaml.safe_load(render({}, repository, commit="v7.8.9")[ANSWERS_FILE].content)
    assert (recorded["_src_path"], recorded["_commit"]) == ("git+mlscaffold::default", "v7.8.9")
    assert "_commit" not in yaml.safe_load(render({}, repository)[ANSWERS_FILE].content)


def test_a_template_that_has_been_rendered_is_not_compiled_again(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    combinations = list(read(repository).combinations())[:20]
    before = [render(answers) for answers in combinations]
    compiled: list[str | None] = []
    compile_ = jinja2.Environment.compile

    def counting(self: jinja2.Environment, source: str, name: str | None = None, *rest: object) -> object:
        compiled.append(name)
        return compile_(self, source, name, *rest)  # type: ignore[call-overload]

    monkeypatch.setattr(jinja2.Environment, "compile", counting)
    assert [render(answers) for answers in combinations] == before
    assert not compiled


def test_a_template_that_misspells_an_answer_is_named(tmp_path: Path) -> None:
    (tmp_path / "copier.yml").write_text(
        "_envops: {undefined: jinja2.StrictUndefined}\n_subdirectory: t\na: {type: str, default: x}\n"
    )
    (tmp_path / "t").mkdir()
    (tmp_path / "t/file.txt.jinja").write_text("{{ b }}")
    with pytest.raises(CatalogueError, match=r"file\.txt\.jinja does not render.*'b' is undefined"):
        render({}, tmp_path)


def test_no_template_writes_outside_the_project(tmp_path: Path) -> None:
    (tmp_path / "copier.yml").write_text("_subdirectory: t\na: {type: str, default: ../..}\n")
    (tmp_path / "t").mkdir()
    (tmp_path / "t/{{ a }}").write_text("")
    with pytest.raises(CatalogueError, match="outside the project"):
        render({}, tmp_path)


def test_a_written_project_has_the_rendered_files(tmp_path: Path, render_project: RenderProject) -> None:
    project = render_project(tmp_path / "p", project="p", framework="ignite")
    written = {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file()
    }
    assert written == {
        name: file.content for name, file in render({"project": "p", "framework": "ignite"}).items()
    }
