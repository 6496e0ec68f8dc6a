"""Kits, answers and folders of strangers: nothing of them is run, read elsewhere, endless or obeyed."""

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import copier
import pexpect  # type: ignore[import-untyped]
import pytest

from mlscaffold.catalogue.answers import read_answers
from mlscaffold.catalogue.questions import read
from mlscaffold.errors import MlscaffoldError, masked
from mlscaffold.kits.find import find_kit
from mlscaffold.kits.kit import read_kit
from mlscaffold.kits.obeyed import obeyed
from mlscaffold.kits.snapshot import snapshot
from mlscaffold.releases.addresses import refuse_unsafe_address
from mlscaffold.releases.fetch import Templates
from mlscaffold.releases.own import is_own, template_root
from mlscaffold.rendering import target
from mlscaffold.rendering.render import File, render
from mlscaffold.system import git as git_module
from mlscaffold.system.git import run_git
from mlscaffold.update.command import show
from mlscaffold.update.merge import Merged, Store
from mlscaffold.update.plan import Plan, Step
from mlscaffold.update.project import Layer, Project
from mlscaffold.update.requirements import requirements
from tests.support.command import CTRL_C, Ran, mlscaffold, refused, terminal
from tests.support.releases import clean_settings, commit, git

LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
MARK = "import pathlib; pathlib.Path({!r}).touch()\n"


@pytest.fixture(scope="session")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skeleton")
    assert mlscaffold("kit", "new", "acme", cwd=folder).code == 0
    return folder / "acme"


@pytest.fixture
def kit(skeleton: Path, tmp_path: Path) -> Path:
    return shutil.copytree(skeleton, tmp_path / "acme")


def bring(kit: Path, name: str, text: str = "x\n") -> None:
    path = kit / "overlay" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def set_up(kit: Path, file: str, before: str, after: str) -> None:
    text = (kit / file).read_text(encoding="utf-8")
    assert before in text
    (kit / file).write_text(text.replace(before, after, 1), encoding="utf-8")


def overlay(kit: Path) -> list[str]:
    """Render a kit beside a project, in this process; return the files that are to be read first."""
    catalogue = read(template_root())
    found = read_kit(kit, catalogue)
    answers = catalogue.resolve({"project": "digits"})
    project = render(answers)
    return obeyed(project, found.overlay(answers, project), found.answers_file)


def make(kit: Path, *flags: str) -> Ran:
    return mlscaffold("new", "digits", "--kit", kit, "--no-git", *flags, cwd=kit.parent)


# What a kit brings


@pytest.mark.parametrize(
    "name",
    [
        "src/sitecustomize.py",
        "src/usercustomize/__init__.py",
        "SiteCustomize.PY",
        "src/x.pth",
        "src/x.egg-info/entry_points.txt",
        "src/digits/train.cpython-311-x86_64-linux-gnu.so",
        "src/digits/train/__init__.py",
        "src/digits/__pycache__/train.cpython-311.pyc",
        "src/yaml/__init__.py",
        "src/torch.py",
        "torch.py",
        "apex/__init__.py",
        "torch_xla/core.py",
        "matplotlibrc",
        "docs/matplotlibrc",
        "scripts/.pdbrc",
        "uv.toml",
        "uv.lock",
        "pip.conf",
        ".python-version",
        ".venv/bin/python",
        ".venv/pyvenv.cfg",
        "hatch.toml",
        "wandb/settings",
        ".netrc",
        ".copier-answers.other.yml",
        "sub/.copier-answers.yml",
    ],
)
def test_what_programs_obey_unasked_is_refused(kit: Path, name: str) -> None:
    bring(kit, name)
    with pytest.raises(MlscaffoldError, match=r"The kit writes .*Nothing was written"):
        overlay(kit)


def test_looking_a_kit_over_runs_nothing_of_it(kit: Path, tmp_path: Path) -> None:
    mark = tmp_path / "OWNED"
    set_up(
        kit,
        "kit.yml",
        "locks:\n",
        "locks:\n  framework: ignite\n  hpo: none\n  serving: none\n  loggers: []\n",
    )
    bring(kit, "src/sitecustomize.py", MARK.format(str(mark)))
    for flags in ((), ("--train",)):
        assert "src/sitecustomize.py" in refused("kit", "check", kit, *flags, cwd=tmp_path, code=1)
    (kit / "overlay/src/sitecustomize.py").rename(kit / "overlay/conftest.py")
    set_up(kit, "kit.yml", "  loggers: [tensorboard]\n", "  strategy: single\n")
    looked = mlscaffold("kit", "check", kit, cwd=tmp_path)
    assert (looked.code, looked.err) == (0, "")
    assert "acme: programs obey by name, so read first: conftest.py" in looked.out
    assert "trained" not in looked.out
    assert not mark.exists()


NAMES = (
    ".vscode/tasks.json",
    ".github/workflows/x.yml",
    ".envrc",
    ".gitmodules",
    ".pre-commit-hooks.yaml",
    "GEMINI.md",
    "GNUmakefile",
    "autorun.inf",
    "conftest.py",
    "docs/AGENTS.md",
    "docs/Desktop.ini",
    "docs/conf.py",
    "docs/guide.pdf.lnk",
    "examples/more/claude.md",
    "notebooks/jupyter_server_config.json",
    "noxfile.py",
    "package.json",
    "pytest.ini",
    "runs/smoke/last.pt",
    "scripts/git.bat",
    "src/digits/CLAUDE.md",
    "tests/test_more.py",
)


def test_what_programs_obey_by_name_is_announced(kit: Path) -> None:
    for name in (*NAMES, "docs/page.md", "CONTRIBUTING.md", "scripts/run.sh", "src/{{ package }}/own.py"):
        bring(kit, name)
    made = make(kit, "--json")
    assert made.code == 0
    assert json.loads(made.out)["read_first"] == sorted(NAMES)
    assert "The kit acme brings files that programs obey by name: .envrc, " in made.err


@pytest.mark.parametrize(
    ("typed", "said", "code"),
    [("n\r", "Not confirmed. Nothing was written", 1), (CTRL_C, "Stopped at a question. Nothing was", 130)],
)
def test_who_does_not_trust_what_a_kit_brings_gets_nothing(
    kit: Path, tmp_path: Path, typed: str, said: str, code: int
) -> None:
    bring(kit, ".vscode/tasks.json")
    answers = tmp_path / "answers.yml"  # of every question, so that nothing is asked before
    answers.write_text(json.dumps(read(template_root()).resolve({"precision": "fp32"})))
    flags = ("--kit", str(kit), "--answers", str(answers), "--no-git")
    with terminal("new", "digits", *flags, cwd=tmp_path, PYTHONUNBUFFERED="1") as child:
        child.expect("obey by name: .vscode/tasks.json")  # before the question, whatever is buffered
        child.expect("Do you trust them")
        assert not (tmp_path / "digits").exists()
        child.send(typed)
        child.expect(said)
        child.expect(pexpect.EOF)
    assert child.wait() == code
    assert not (tmp_path / "digits").exists()


def test_an_answers_file_does_not_send_updates_elsewhere(kit: Path) -> None:
    bring(kit, "{{ _copier_conf.answers_file }}.jinja", "_src_path: gh:evil/kit\n_commit: v1\n")
    with pytest.raises(MlscaffoldError, match="does not say where the kit came from"):
        overlay(kit)


@pytest.mark.parametrize("text", ["{{ 7*7 }}", "{% include 'pyproject.toml' %}", LOOPS])
def test_a_default_of_a_kit_is_a_text_and_no_template(kit: Path, text: str) -> None:
    (kit / "kit.yml").write_text(
        f"name: acme\nmlscaffold: '>=0.1'\ndefaults:\n  description: {json.dumps(text)}\n"
    )
    catalogue = read(template_root())
    found = read_kit(kit, catalogue)
    answers = catalogue.with_defaults(found.own_defaults(catalogue)).resolve({"project": "digits"})
    assert answers["description"] == text


# Names that answers decide

QUESTIONS = """
flavour: {type: str, default: md, choices: [md, toml]}
quiet: {type: bool, default: true}
computed: {type: str, when: false, default: "{% if quiet %}docs{% else %}sitecustomize{% endif %}"}
package: {type: str, default: digits}
"""


@pytest.mark.parametrize(
    "name",
    [
        "src/{% if project == 'other' %}sitecustomize.py{% endif %}",
        "{% if project %}{% elif quiet %}{% else %}uv.toml{% endif %}",
        "{% if quiet %}docs{% else %}.venv{% endif %}/page.md",
        "{{ 'uv' if flavour == 'toml' else 'uvw' }}.toml",
        "{% if not quiet %}u{% endif %}v{% if 1 %}env{% endif %}",
        "uv.{{ flavour }}",
        "src/{{ computed }}.py",
        "{{ package }}{% if not quiet %}.py{% endif %}",
        "docs/{% if not quiet %}CON{% endif %}.md",
        "{% raw %}uv.toml{% endraw %}",
    ],
)
def test_a_name_is_judged_as_all_that_it_can_become(kit: Path, tmp_path: Path, name: str) -> None:
    with (kit / "copier.yml").open("a") as file:
        file.write(QUESTIONS)
    bring(kit, name)
    for command in ("show", "check"):
        assert "The kit writes " in refused("kit", command, kit, cwd=tmp_path, code=1)


@pytest.mark.parametrize(
    "name",
    [
        "{{ team }}.md",
        "{{ package | replace('digits', 'docs') }}.md",
        "{% set x = 'docs' %}{{ x }}.md",
        "{{ 'do' ~ 'cs' }}.md",
        "{% include 'kit.yml' %}.md",
        "{% for x in 'ab' %}{{ x }}{% endfor %}.md",
        "{% if _copier_phase == 'render' %}more{% endif %}.md",
        "{{ _folder_name }}.md",
        "{{ _copier_conf.dst_path }}.md",
        "{{ self }}.md",
        "{% if flavour == 'md' %}more.md",
        "".join("{% if quiet %}a{% endif %}" for _ in range(9)),
    ],
)
def test_a_name_of_which_nobody_can_tell_is_refused(kit: Path, name: str) -> None:
    with (kit / "copier.yml").open("a") as file:
        file.write(QUESTIONS)
    bring(kit, f"docs/{name}")
    with pytest.raises(MlscaffoldError, match="nobody can tell what that becomes"):
        overlay(kit)


def test_a_file_is_not_left_out_by_answers_alone(kit: Path) -> None:
    bring(kit, "uv.toml")
    set_up(kit, "copier.yml", "_subdirectory", "_exclude: [uv.toml]\n_subdirectory")
    assert overlay(kit) == []
    other = kit.rename(kit.with_name("other"))
    set_up(other, "copier.yml", "[uv.toml]", "[\"{% if project != 'other' %}uv.toml{% endif %}\"]")
    with pytest.raises(MlscaffoldError, match=r"The kit writes uv\.toml"):
        overlay(other)


def test_an_answers_file_of_another_name_is_judged_by_it(kit: Path) -> None:
    set_up(kit, "copier.yml", "_answers_file: .copier-answers.acme.yml", "_answers_file: uv.toml")
    bring(kit, "{% if project == 'other' %}{{ _copier_conf.answers_file }}{% endif %}")
    with pytest.raises(MlscaffoldError, match=r"The kit writes uv\.toml"):
        overlay(kit)


def test_a_kit_shows_what_to_read_first_whatever_is_answered(kit: Path, tmp_path: Path) -> None:
    with (kit / "copier.yml").open("a") as file:
        file.write(QUESTIONS)
    bring(kit, "docs/{% if not quiet %}AGENTS{% else %}page{% endif %}.{{ flavour }}")
    bring(kit, "src/{{ package }}/{% if quiet %}own{% endif %}.py")
    shown = json.loads(mlscaffold("kit", "show", kit, "--json", cwd=tmp_path).out)
    assert "docs/AGENTS.md" in shown["read_first"]
    assert "docs/page.md" in shown["files"]
    assert json.loads(make(kit, "--json").out)["read_first"] == []


def test_copier_and_new_see_the_same_in_a_kit(kit: Path, tmp_path: Path) -> None:
    text = "[[ _copier_phase ]] [[ _copier_operation is defined ]] {{ package }} [[ package ]]\n"
    marks = "{variable_start_string: '[[', variable_end_string: ']]', keep_trailing_newline: true}"
    (kit / "copier.yml").write_text(
        f"_subdirectory: overlay\n_answers_file: .copier-answers.acme.yml\n_envops: {marks}\n"
        "package: {type: str, default: my_project}\n"
    )
    for path in (kit / "overlay").iterdir():
        path.unlink()
    bring(kit, "[[ _copier_conf.answers_file ]].jinja", "[[ _copier_answers | to_nice_yaml ]]")
    bring(kit, "docs/[[ package ]].md.jinja", text)
    made = make(kit)
    assert made.code == 0, made.err
    copier.run_copy(str(kit), tmp_path / "other", data={"package": "digits"}, defaults=True, quiet=True)
    ours, theirs = ((tmp_path / name / "docs/digits.md").read_text() for name in ("digits", "other"))
    assert ours == theirs == "render False {{ package }} digits\n"


# Folders that change meanwhile


def test_what_was_judged_is_what_is_written(kit: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cr3t\n")
    bring(kit, "docs/page.md", "before\n")
    bring(kit, "docs/more.md.jinja", "before {{ project }}\n")
    catalogue = read(template_root())
    with Templates() as templates:
        found = find_kit(str(kit), catalogue, templates)
        bring(kit, "src/sitecustomize.py")
        for name in ("page.md", "more.md.jinja"):
            (kit / "overlay/docs" / name).unlink()
            (kit / "overlay/docs" / name).symlink_to(tmp_path / "secret")
        set_up(kit, "copier.yml", "_subdirectory: overlay", "_subdirectory: /")
        answers = catalogue.resolve({"project": "digits"})
        files = found.overlay(answers, render(answers))
    assert {name: files[name].content for name in files if name.startswith("docs/")} == {
        "docs/page.md": b"before\n",
        "docs/more.md": b"before digits\n",
    }
    assert "src/sitecustomize.py" not in files


@pytest.mark.skipif(not hasattr(os, "fwalk"), reason="Windows enters no folder by its descriptor")
def test_a_link_that_comes_while_a_kit_is_copied_is_not_followed(kit: Path, tmp_path: Path) -> None:
    outside, docs = tmp_path / "outside", kit / "overlay/docs"
    for folder in (outside, docs):
        folder.mkdir()
        (folder / "page.md").write_text("s3cr3t\n" if folder == outside else "page\n")
    (tmp_path / "link").symlink_to(outside)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            docs.rename(tmp_path / "apart")
            (tmp_path / "link").rename(docs)
            docs.rename(tmp_path / "link")
            (tmp_path / "apart").rename(docs)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for number in range(200):
            copy = tmp_path / f"copy-{number}"
            with suppress(OSError):
                snapshot(kit, copy)
            place = copy / "overlay/docs"
            assert place.is_symlink() or not place.exists() or "s3cr3t" not in (place / "page.md").read_text()
    finally:
        over.set()
        swapping.join()


def test_errors_name_the_folder_of_a_kit_and_not_its_copy(kit: Path, tmp_path: Path) -> None:
    bring(kit, "docs/page.md.jinja", "{{ 1 / 0 }}")
    assert f"{kit}/overlay/docs/page.md.jinja does not render" in refused(
        "kit", "show", kit, cwd=tmp_path, code=1
    )


# Names that other systems take otherwise


@pytest.mark.parametrize(
    "name",
    [
        "CON.txt",
        "docs/aux",
        "docs/com¹.log",
        "nul .md",
        "docs/end.",
        "docs/end ",
        "C:evil.md",
        "docs/a:stream",
        "docs/a\\b",
        "docs/what?.md",
        "-rf",
        ".g\u200cit/config",
        ".GIT/config",
        "GIT~1/config",
        "docs/README~1",
        "git~12/config",
        ".git::$INDEX_ALLOCATION/config",
        "docs/\u202egpj.exe",
        "docs/a\x1b[31m.md",
        "readme.MD",
        "\uff32EADME.md",
        "Src/digits/own.md",
        "SRC",
    ],
)
def test_a_name_that_other_systems_take_otherwise_is_refused(kit: Path, name: str) -> None:
    bring(kit, name)
    with pytest.raises(MlscaffoldError):
        overlay(kit)


def test_two_files_of_a_kit_that_are_one_elsewhere_are_refused(kit: Path) -> None:
    for name in ("docs/caf\u00e9.md", "docs/cafe\u0301.md"):
        bring(kit, name)
    with pytest.raises(MlscaffoldError, match="are one where case or forms of letters do not count"):
        overlay(kit)


# Links and git's files


@pytest.mark.parametrize("name", ["kit.yml", "copier.yml", "overlay/CODEOWNERS.jinja", "overlay"])
@pytest.mark.parametrize("overlaid", [True, False])
def test_a_kit_is_not_read_through_a_link(kit: Path, name: str, overlaid: bool) -> None:
    if not overlaid:
        shutil.copytree(kit / "overlay", kit.parent / "overlay")
        for path in (kit / "copier.yml", kit / "overlay"):
            if path.name != name:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not (kit / name).exists():
        return
    (kit / name).rename(kit.parent / "outside")
    (kit / name).symlink_to(kit.parent / "outside")
    with pytest.raises(MlscaffoldError, match="is a link, which could lead anywhere"):
        overlay(kit)


@pytest.mark.parametrize("text", ["{% include '.git/config' %}", "{% include 'overlay/../.git/config' %}"])
def test_the_secrets_in_a_kits_own_git_stay_there(kit: Path, text: str) -> None:
    git(kit, "init", "--quiet")
    git(kit, "config", "remote.origin.url", "https://user:s3cr3t@example.org/kit.git")
    bring(kit, "NOTES.md.jinja", text)
    ran = make(kit)
    assert (ran.code, "s3cr3t" in ran.err) == (1, False)
    assert not (kit.parent / "digits").exists()


def test_git_files_are_no_overlay(kit: Path) -> None:
    git(kit, "init", "--quiet")
    set_up(kit, "copier.yml", "_subdirectory: overlay", "_subdirectory: .git")
    with pytest.raises(MlscaffoldError, match=r"_subdirectory is '\.git'"):
        overlay(kit)
    set_up(kit, "copier.yml", "_subdirectory: .git", "_subdirectory: overlay")
    bring(kit, "docs/.Git/config")
    with pytest.raises(MlscaffoldError, match="of git's own"):
        overlay(kit)


@pytest.mark.parametrize("existing", [True, False])
def test_nothing_is_written_through_a_link(tmp_path: Path, existing: bool) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "project"
    folder.mkdir()
    (folder / "README.md").symlink_to(outside)
    if existing:
        outside.write_text("mine\n")
    with pytest.raises(FileExistsError):
        target.write({"README.md": File(b"theirs\n")}, folder)
    assert outside.exists() == existing
    assert not existing or outside.read_text() == "mine\n"


# Bounds


def bomb(key: str) -> str:
    """Nine lists of nine, each of the one before: 100 lines that stand for a billion words."""
    lines = [f"{key}:", "  - &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"  - &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines) + "\n"


def merges(key: str) -> str:
    lines = [f"{key}:", "  - &a0 {x: 1}"]
    lines += [f"  - &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 10)]
    return "\n".join(lines) + "\n"


DOCUMENTS = {
    "aliases": bomb("description"),
    "merges": merges("description"),
    "a loop": "description: &a [*a]\n",
    "depth": f"description: {'[' * 100_000}",
    "depth by dashes": f"description:\n{'- ' * 100_000}x\n",
    "size": f"description: {'x' * (2 << 20)}\n",
    "a large number": f"description: 0x{'f' * 50_000}\n",
    "a date that is none": "description: 2026-99-99\n",
    "a tag": "description: !!python/object/apply:os.system [id]\n",
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_yaml_of_any_kind_ends_in_one_line(kit: Path, text: str) -> None:
    set_up(kit, "kit.yml", "description: What our projects begin with.\n", text)
    with pytest.raises(MlscaffoldError, match=r"\A[^\n]*kit\.yml[^\n]*\Z"):
        overlay(kit)


SLOW = {
    "a number of base 60": f"1{':1' * 160_000}",
    "keys that collide": f"{{{', '.join(f'{i * (2**61 - 1)}: ' for i in range(1, 20_000))}}}",
}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bound less")
@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_yaml_that_takes_long_ends_in_one_line(kit: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlscaffold.system.bounds.SECONDS", 2)  # half of which a single step may take
    set_up(kit, "kit.yml", "description: What our projects begin with.\n", f"description: {text}\n")
    with pytest.raises(MlscaffoldError, match=r"\A[^\n]*computes for more than[^\n]*\Z"):
        read_kit(kit, read(template_root()))


@pytest.mark.parametrize("name", ["aliases", "merges", "size"])
def test_answers_of_any_kind_end_in_one_line(tmp_path: Path, name: str) -> None:
    answers = tmp_path / "answers.yml"
    answers.write_text(DOCUMENTS[name])
    with pytest.raises(MlscaffoldError, match=r"\A[^\n]*answers\.yml[^\n]*\Z"):
        read_answers(read(template_root()), answers)


def test_a_deep_catalogue_does_not_crash_the_parser(kit: Path, tmp_path: Path) -> None:
    with (kit / "copier.yml").open("a") as file:
        file.write(DOCUMENTS["depth"])
    assert "levels deep" in refused("kit", "show", kit, cwd=tmp_path, code=1)


ENDLESS = {
    "a power": "{{ 10 ** 10 ** 3 ** 3 }}{{ (10 ** 999) ** 999 }}",
    "a product": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "places": "{{ 1.5 | round(1000000000, 'ceil') }}",
    "doubling": "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a wide word": "{{ 'x' | center(99999999999) }}",
    "a long text": "{{ 'x' * 99999999 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}
# What is looked at first and what is written are two renderings: by chance the second alone is endless.
CHANCE = {"a filter": "{{ [1, 2] | random }}", "a function": "{{ lipsum(1) }}"}


@pytest.mark.parametrize("text", CHANCE.values(), ids=CHANCE)
def test_nothing_of_a_kit_is_left_to_chance(kit: Path, text: str) -> None:
    bring(kit, "NOTES.md.jinja", text)
    with pytest.raises(MlscaffoldError, match=r"\A.*does not render: [^\n]*(random|lipsum).*\Z"):
        overlay(kit)


# A dictionary whose keys have the same hash is one step of Python's, which hears of no signal.
ONE_STEP = """{% set pairs = [] %}{% for i in range(90000) %}
{%- set _ = pairs.append((i * 2305843009213693951, i)) %}{% endfor %}{{ dict(pairs) | length }}"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bound less")
@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_template_ends_in_one_line(kit: Path, text: str) -> None:
    bring(kit, "NOTES.md.jinja", text)
    with pytest.raises(MlscaffoldError, match=r"\A.*(does not render:|computes |writes ).*\Z"):
        overlay(kit)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bound less")
def test_a_single_step_that_takes_long_ends_in_one_line(kit: Path, tmp_path: Path) -> None:
    bring(kit, "NOTES.md.jinja", ONE_STEP)
    said = refused("new", "digits", "--kit", kit, "--yes", cwd=tmp_path, code=1, lines=1)
    assert f"The template in {kit} computes for more than" in said
    assert not list(tmp_path.glob("digits*"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bound less")
def test_an_endless_rule_makes_no_project(kit: Path, tmp_path: Path) -> None:
    set_up(kit, "copier.yml", 'default: "@our-team"', f'default: "{LOOPS}"')
    said = refused("new", "digits", "--kit", kit, "--yes", cwd=tmp_path, code=1)
    assert "computes for more than" in said
    assert not (tmp_path / "digits").exists()


def test_a_kit_of_too_many_files_is_refused(kit: Path) -> None:
    for number in range(10_001):
        (kit / "overlay" / str(number)).touch()
    with pytest.raises(MlscaffoldError, match="it holds more than"):
        overlay(kit)


@pytest.mark.parametrize("way", ["folder", "address"])
def test_a_kit_that_is_too_deep_is_refused(kit: Path, tmp_path: Path, way: str) -> None:
    """Python walks folders by recursion: a thousand are an error of its own, also where they are removed."""
    bring(kit, f"{'a/' * 60}page.md")
    git(kit, "init", "--quiet")
    commit(kit)
    said = refused("kit", "show", kit.as_uri() if way == "address" else kit, cwd=tmp_path, code=1, lines=1)
    assert "it is more than 50 folders deep" in said


def test_a_kit_that_is_too_large_is_refused(kit: Path) -> None:
    with (kit / "overlay/hole.md").open("wb") as file:
        file.truncate(1 << 40)  # takes no space on the disk
    with pytest.raises(MlscaffoldError, match="it holds more than"):
        overlay(kit)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bound less")
def test_a_git_bomb_ends_in_one_line(kit: Path, tmp_path: Path) -> None:
    fill_with_a_billion(kit)
    said = refused("kit", "show", kit.as_uri(), cwd=tmp_path, code=1)
    assert "holds more than 64 MiB, or cannot be read" in said


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bound less")
def test_a_git_bomb_behind_a_folder_is_no_history(kit: Path) -> None:
    """The newest commit names a billion files, of which the folder has none."""
    fill_with_a_billion(kit)
    with Templates() as templates:
        assert find_kit(str(kit), read(template_root()), templates).commit == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_git_does_not_wait_for_ever_for_what_a_folder_names(
    kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(kit, "init", "--quiet")
    commit(kit)
    os.mkfifo(kit / ".git/waits")
    git(kit, "config", "core.excludesFile", str(kit / ".git/waits"))
    monkeypatch.setattr("mlscaffold.kits.committed.LOOK_SECONDS", 2)
    with Templates() as templates, pytest.raises(MlscaffoldError, match="takes longer than 2 seconds"):
        find_kit(str(kit), read(template_root()), templates)


@pytest.mark.parametrize(
    "text", [f"[project]\nname = 0x{'f' * 9000}", f"x = {'9' * 9000}", f"x = {'[' * 9000}"]
)
def test_a_pyproject_of_any_kind_has_no_requirements_at_most(text: str) -> None:
    assert requirements(text) is None


def test_a_tag_of_many_digits_is_no_release(kit: Path) -> None:
    git(kit, "init", "--quiet")
    commit(kit)
    git(kit, "tag", "v1.0.0")
    (kit / ".git/packed-refs").write_text(f"{git(kit, 'rev-parse', 'HEAD')} refs/tags/v{'9' * 5000}\n")
    with Templates() as templates:
        assert templates.newest(str(kit), "") == "v1.0.0"


def fill_with_a_billion(kit: Path) -> None:
    """Commit ten folders in each of ten, nine levels deep: nine objects of git, and a billion files."""
    git(kit, "init", "--quiet")
    commit(kit)
    tree = git(kit, "rev-parse", "HEAD:overlay")
    for _ in range(9):
        tree = make_tree(kit, [f"040000 tree {tree}\t{number}" for number in range(10)])
    top = make_tree(kit, [*git(kit, "ls-tree", "HEAD").splitlines(), f"040000 tree {tree}\tbomb"])
    git(kit, "update-ref", "HEAD", git(kit, "commit-tree", "-m", "Bomb", top))


def make_tree(repository: Path, entries: list[str]) -> str:
    given = "".join(f"{entry}\n" for entry in entries)
    done = subprocess.run(
        ["git", "mktree"], cwd=repository, input=given, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


# Addresses


SECRETS = [
    "https://user:s3cr3t@example.org/kit.git",
    "https://s3cr3t@example.org/kit.git",
    "git+https://user:s3cr3t@example.org/kit.git",
    "HTTPS://USER:s3cr3t@example.org/kit.git",
    "https://user:s3cr3t%40x@example.org/kit.git",
    "https://user:a@s3cr3t@example.org/kit.git",
    "https://user:a/s3cr3t@example.org/kit.git",
    "https://user:a b's3cr3t@example.org/kit.git",
    "https://example.org/kit.git?private_token=s3cr3t",
    "https://example.org/kit.git#s3cr3t",
    "ssh://user:s3cr3t@example.org/kit.git",
    "ftp://user:s3cr3t@example.org/kit.git",
    "user:s3cr3t@example.org:kit.git",
    "https:user:s3cr3t@example.org/kit.git",
    "gh:example.org/kit?private_token=s3cr3t",
    "gl:example.org/kit%3fprivate_token=s3cr3t",
    "gh:example.org/kit#s3cr3t",
    "gh:s3cr3t@example.org/kit",
    "gl:user:s3cr3t@example.org/kit",
    "git+gh:example.org/kit?private_token=s3cr3t",
    "git@example.org:kit.git?private_token=s3cr3t",
    "example.org:kit.git?private_token=s3cr3t",
    "ssh://git@example.org/kit.git?private_token=s3cr3t",
    "git+ssh://example.org/kit.git#s3cr3t",
    "git://example.org/kit.git?x=1&private_token=s3cr3t",
    "mlscaffold::example.org?private_token=s3cr3t",
]


@pytest.mark.parametrize("address", SECRETS)
def test_an_address_with_a_secret_is_refused_without_a_word_of_it(address: str) -> None:
    with pytest.raises(MlscaffoldError) as refusal:
        refuse_unsafe_address(address, "--kit")
    assert "s3cr3t" not in str(refusal.value)
    assert "example.org" in str(refusal.value)


@pytest.mark.parametrize("address", [text for text in SECRETS if " " not in text and "a/s" not in text])
def test_what_a_program_says_of_an_address_is_told_without_its_secret(address: str) -> None:
    for said in (f"fatal: unable to access '{address}': no", f"{address}: no", f"cloning ({address})"):
        assert "s3cr3t" not in masked(said)
        assert "s3cr3t" not in str(MlscaffoldError(said))


def test_a_token_stands_in_nothing_that_new_writes_or_says(tmp_path: Path) -> None:
    address = "https://user:s3cr3t@127.0.0.1:9/kit.git"
    said = refused("new", "digits", "--kit", address, "--yes", cwd=tmp_path, code=1)
    assert "git asks a credential helper" in said
    assert "s3cr3t" not in said
    assert not list(tmp_path.iterdir())


def test_a_token_in_a_project_that_exists_reaches_no_program() -> None:
    with Templates() as templates, pytest.raises(MlscaffoldError) as refusal:
        templates.newest("git+https://user:s3cr3t@127.0.0.1:9/kit.git", "v1.0.0")
    assert "_src_path: the address ***@127.0.0.1:9/kit.git holds" in str(refusal.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/team/kit.git",
        "https://example.org:8443/@team/kit.git",
        "git+ssh://git@example.org:22/kit.git",
        "git@example.org:team/kit.git",
        "gh:team/kit",
        "git+mlscaffold::acme",
        "./acme",
        "./c#/acme",
        "C:\\c#\\acme",
        "file:///srv/c#/acme",
        "acme",
    ],
)
def test_an_honest_address_is_taken(address: str) -> None:
    refuse_unsafe_address(address, "--kit")


@pytest.mark.parametrize(
    "address",
    ["-x.git", "git+--upload-pack=touch OWNED", "ssh://-oProxyCommand=x/kit.git", "git@-oX:kit.git"],
)
def test_an_address_is_never_an_option(address: str) -> None:
    with pytest.raises(MlscaffoldError, match="begins with '-'"):
        refuse_unsafe_address(address, "--kit")


@pytest.mark.parametrize("text", ["http:" * 200_000, "//" * 100_000, "http://" * 100_000, "a:" * 100_000])
def test_a_long_address_takes_no_long_time(text: str) -> None:
    with pytest.raises(MlscaffoldError, match=r"--kit: no address has [\d,]+ characters"):
        refuse_unsafe_address(text, "--kit")
    assert len(masked(f"git says: {text}")) <= 4_010


def test_a_secret_is_masked_where_a_text_is_cut() -> None:
    said = masked(f"{'x ' * 1_990}https://user:s3cr3t@example.org{'/x' * 500}")
    assert "s3cr3t" not in said
    assert said.endswith("x ...")


# What is printed

EMPTY = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's tree without files
HOSTILE = "\x1b]0;title\x07\x1b[31mred\x1b[8m\r\u202e"


def test_an_error_is_one_line_whatever_a_kit_says(kit: Path, tmp_path: Path) -> None:
    bring(kit, "NOTES.md.jinja", "{{ {}['a\\nmlscaffold: Done, and safe.\\n'] + 1 }}{{ 1 + 'x' }}")
    bring(kit, "{{ 'x\nmlscaffold: Done.' }}{% nothing %}")
    assert refused("kit", "show", kit, cwd=tmp_path, code=1, lines=1)
    error = MlscaffoldError("a\r\nb\u2028c\x1b[31m", "d\x85e", "one\ntwo")
    assert str(error) == "a b c\\x1b[31m d e\none two"


def test_a_plan_has_no_lines_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faked = "x\nDone, and staged."
    layer = Layer(f".copier-answers.{faked}.yml", faked, faked, {"a": faked, faked: faked})
    step = Step(layer, f"{faked}2", {"a": f"{faked}3"}, {"a": faked, faked: faked})
    project = Project(tmp_path, tmp_path, "", (layer,), (faked,))
    git(tmp_path, "init", "--quiet")
    merged = Merged("", {}, [], [faked], [])
    show(Plan(project, Store(tmp_path), (step,), EMPTY, EMPTY, replace(merged, tree=EMPTY), {faked: "added"}))
    assert not [line for line in capsys.readouterr().out.splitlines() if line.startswith("Done")]


def test_words_of_a_kit_reach_the_screen_as_text(kit: Path, tmp_path: Path) -> None:
    words = json.dumps(f"{HOSTILE}\nlocks: none")
    set_up(kit, "kit.yml", "description: What our projects begin with.", f"description: {words}")
    ran = mlscaffold("kit", "show", kit, cwd=tmp_path)
    assert ran.code == 0
    assert "red" in ran.out
    assert all(sign.isprintable() or sign == "\n" for sign in ran.out)
    assert sum(line.startswith("locks:") for line in ran.out.splitlines()) == 1


def test_names_of_a_repository_reach_the_screen_as_text(tmp_path: Path) -> None:
    (tmp_path / ".copier-answers.yml").write_text(f"framework: {json.dumps(HOSTILE)}\n")
    ran = mlscaffold("doctor", cwd=tmp_path)
    assert all(sign.isprintable() or sign == "\n" for sign in ran.out + ran.err)


def test_a_change_reaches_the_screen_as_text_in_colours_of_our_own(tmp_path: Path) -> None:
    script = "from mlscaffold import screen; screen.protect(); print('first'); screen.print_diff({!r})"
    change = "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+{}\n"
    done = subprocess.run(
        [sys.executable, "-c", script.format(change.format(HOSTILE))],
        cwd=tmp_path,
        env=clean_settings(),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout == f"first\n{change.format(ascii(HOSTILE)[1:-1])}"


def test_what_the_remote_helper_says_reaches_the_screen_as_text(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from mlscaffold.releases.remote import main; main()", "origin", HOSTILE],
        cwd=tmp_path,
        env=clean_settings(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "is no template source" in done.stderr
    assert all(sign.isprintable() or sign == "\n" for sign in done.stderr)


def test_colours_of_our_own_stay(tmp_path: Path) -> None:
    with terminal("options", cwd=tmp_path, NO_COLOR="") as child:
        child.expect_exact("\x1b[1;36m--framework")


# Projects of others


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A committed project of others, with nothing but its answers."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / ".copier-answers.yml").write_text("_commit: v0.7.0\n_src_path: git+mlscaffold::default\n")
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def test_a_project_of_many_kits_is_refused_before_any_is_fetched(theirs: Path) -> None:
    for number in range(20):
        (theirs / f".copier-answers.{number}.yml").write_text("_commit: v1\n_src_path: ssh://127.0.0.1:9/x\n")
    commit(theirs)
    said = refused("update", cwd=theirs, code=1, lines=1)
    assert "holds 21 answers files, and 20 are the most. Remove" in said


@pytest.mark.parametrize("name", [".copier-answers.yml", ".copier-answers.acme.yml"])
def test_answers_are_not_read_through_a_link(theirs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.yml").write_text("framework: s3cr3t\n_commit: s3cr3t\n_src_path: s3cr3t\n")
    (theirs / name).unlink(missing_ok=True)
    (theirs / name).symlink_to(tmp_path / "secret.yml")
    commit(theirs)
    for command in ("update", "diff", "set"):
        words = ["framework=ignite"] if command == "set" else []
        assert f"{name}: a link, which could lead" in refused(command, *words, cwd=theirs, code=1, lines=1)
    looked = mlscaffold("doctor", cwd=theirs)
    assert "s3cr3t" not in looked.out + looked.err
    assert ("is a link, so it was not read" in looked.out) == (name == ".copier-answers.yml")


@pytest.mark.parametrize("sign", ["\\0", "\\ud800", "\\x07"])
@pytest.mark.parametrize("key", ["_commit", "_src_path"])
def test_no_sign_of_an_answer_is_a_surprise(theirs: Path, key: str, sign: str) -> None:
    stored = {"_commit": "v0.7.0", "_src_path": "git+https://127.0.0.1:9/x"}
    stored[key] += sign
    (theirs / ".copier-answers.yml").write_text(
        "".join(f'{key}: "{value}"\n' for key, value in stored.items())
    )
    commit(theirs)
    assert "should not happen" not in refused("update", cwd=theirs, code=1, lines=1)


@pytest.mark.parametrize("count", ["\u00b2", "9" * 5_000, "-1", "x", "1"])
def test_no_count_of_gits_settings_is_a_surprise(theirs: Path, count: str) -> None:
    said = mlscaffold("update", "--dry-run", cwd=theirs, GIT_CONFIG_COUNT=count)
    assert "should not happen" not in said.err


def test_what_git_cannot_be_given_is_told_in_a_line(tmp_path: Path) -> None:
    for words in (("rev-parse", "a\0b"), ("rev-parse", "x" * (4 << 20))):
        with pytest.raises(MlscaffoldError, match=r"\A`git rev-parse` cannot be started in [^\n]*\Z"):
            run_git(tmp_path, *words)


def test_no_folder_of_others_passes_for_ours(tmp_path: Path) -> None:
    package = Path(git_module.__file__).parents[1]
    (tmp_path / "link").symlink_to(package / "kits/skeleton")
    assert is_own(package / "kits/skeleton")
    assert is_own(tmp_path / "link")
    (tmp_path / "theirs").mkdir()
    assert not is_own(package.joinpath(*[".."] * (len(package.parts) - 1), *(tmp_path / "theirs").parts[1:]))


# A folder that one looks at


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder of others, whose environment runs their program."""
    folder = tmp_path / "theirs"
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/lib/python3.11/site-packages/torch-2.13.0.dist-info").mkdir(parents=True)
    program = folder / ".venv/bin/python"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'OWNED'}\n")
    program.chmod(0o755)
    (folder / ".copier-answers.yml").write_text("project: digits\n")
    return folder


def look(folder: Path, **settings: str) -> dict[str, tuple[str, str]]:
    ran = mlscaffold("doctor", "--json", cwd=folder, without="VIRTUAL_ENV", env=settings)
    return {found["what"]: (found["state"], found["text"]) for found in json.loads(ran.out)}


def test_doctor_runs_nothing_of_a_folder_that_it_looks_at(planted: Path, tmp_path: Path) -> None:
    found = look(planted)
    assert found["python"] == ("note", f"{planted / '.venv'} is not active, so nothing of it was run.")
    assert found["torch"] == ("note", "2.13.0, not tried. Activate .venv to have it tried.")
    assert not (tmp_path / "OWNED").exists()


def test_doctor_takes_no_folder_for_active_that_a_shell_names_by_its_end(
    planted: Path, tmp_path: Path
) -> None:
    found = look(planted, VIRTUAL_ENV=".venv", CONDA_PREFIX=".venv")
    assert found["python"] == ("note", f"{planted / '.venv'} is not active, so nothing of it was run.")
    assert not (tmp_path / "OWNED").exists()


@pytest.mark.parametrize("name", ["yaml", "typer", "rich"])
def test_no_module_of_a_folder_that_one_is_in_is_imported(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text(MARK.format(str(tmp_path / "OWNED")))
    assert mlscaffold("options", cwd=tmp_path).code == 0
    assert not (tmp_path / "OWNED").exists()


def test_doctor_runs_nothing_that_git_tracks_be_it_active(planted: Path, tmp_path: Path) -> None:
    git(planted, "init", "--quiet")
    git(planted, "add", "--force", ".")
    commit(planted)
    found = look(planted, VIRTUAL_ENV=str(planted / ".venv"))
    assert "is committed to git, so nothing of it was run" in found["python"][1]
    assert not (tmp_path / "OWNED").exists()


@pytest.mark.parametrize(
    ("version", "state", "mended"),
    [
        ("2.39.4", "note", "2.43.7"),
        ("2.43.6", "note", "2.43.7"),
        ("2.43.7", "ok", ""),
        ("2.45.3", "note", "2.45.4"),
        ("2.49.1", "ok", ""),
        ("2.50.0.windows.1", "note", "2.50.1"),
        ("2.51.0", "ok", ""),
    ],
)
def test_doctor_tells_of_a_git_with_holes(tmp_path: Path, version: str, state: str, mended: str) -> None:
    program = tmp_path / "bin/git"
    program.parent.mkdir()
    real = shutil.which("git")
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) echo git version {version};; *) exec {real} "$@";; esac\n'
    )
    program.chmod(0o755)
    found = look(tmp_path, PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert found["git"][0] == state
    assert found["git"][1].startswith(version)
    assert mended in found["git"][1]
