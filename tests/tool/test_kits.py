"""Starter kits: from a folder, a git address or a package; made, proved, updated, refused when poisoned."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest
import yaml

from mlscaffold import __version__
from tests.support.command import CTRL_C, mlscaffold, terminal
from tests.support.releases import Environment, clean_settings, commit, git, run, uv

ANSWERS_FILE = "{{ _copier_conf.answers_file }}.jinja"


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """What `mlscaffold kit new` writes, for the releases that tests make, too."""
    assert mlscaffold("kit", "new", "acme", cwd=tmp_path).code == 0
    edit(tmp_path / "acme/kit.yml", f">={__version__}", ">=0.1")
    return tmp_path / "acme"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def stored(project: Path, name: str = ".copier-answers.yml") -> dict[str, object]:
    answers = yaml.safe_load((project / name).read_text(encoding="utf-8"))
    assert isinstance(answers, dict)
    return answers


def test_a_new_kit_is_proved_as_it_stands(kit: Path, tmp_path: Path) -> None:
    checked = mlscaffold("kit", "check", kit, "--no-train", cwd=tmp_path)
    assert (checked.code, checked.err) == (0, "")
    assert "combinations rendered, no file written twice, every file parses" in checked.out
    shown = json.loads(mlscaffold("kit", "show", kit, "--json", cwd=tmp_path).out)
    assert shown["locks"] == {"precision": "fp32"}
    assert shown["files"] == [".copier-answers.acme.yml", "CODEOWNERS"]


def test_a_project_of_a_kit_has_its_answers_and_its_files(kit: Path, tmp_path: Path) -> None:
    edit(kit / "kit.yml", "defaults:\n", "defaults:\n  strategy: ddp\n  team: '@vision'\n")
    made = json.loads(mlscaffold("new", "digits", "--kit", kit, "--json", cwd=tmp_path).out)
    assert (made["answers"]["strategy"], made["answers"]["precision"]) == ("ddp", "fp32")
    assert (tmp_path / "digits/CODEOWNERS").read_text() == "* @vision\n"
    assert stored(tmp_path / "digits", ".copier-answers.acme.yml")["package"] == "digits"
    assert made["command"] == f"mlscaffold new digits --yes --kit {kit}"
    flags = ("--kit", kit, "--strategy=single", "--json")
    other = json.loads(mlscaffold("new", "other", *flags, cwd=tmp_path).out)
    assert other["answers"]["strategy"] == "single"


@pytest.mark.parametrize("given", ["--precision=bf16", "--answers=team.yml"])
def test_a_locked_answer_stays(kit: Path, tmp_path: Path, given: str) -> None:
    (tmp_path / "team.yml").write_text("precision: bf16\n")
    refused = mlscaffold("new", "digits", "--kit", kit, given, cwd=tmp_path)
    assert refused.code == 2
    assert "precision=bf16: the kit acme locks precision=fp32. Leave it out" in refused.err
    assert not (tmp_path / "digits").exists()


def test_a_kit_made_for_another_version_says_so(kit: Path, tmp_path: Path) -> None:
    text = (kit / "kit.yml").read_text()
    (kit / "kit.yml").write_text(text.replace(">=", ">=99, !="))
    refused = mlscaffold("new", "digits", "--kit", kit, cwd=tmp_path)
    assert refused.code == 1
    assert "The kit acme was made for mlscaffold >=99" in refused.err


def test_a_file_that_both_write_is_found_when_the_kit_is_checked(kit: Path, tmp_path: Path) -> None:
    (kit / "overlay/README.md").write_text("Ours.\n")
    refused = mlscaffold("kit", "check", kit, "--no-train", cwd=tmp_path)
    assert refused.code == 1
    assert "both the project and the kit write README.md" in refused.err


def test_agents_of_a_kit_take_the_place_of_the_templates_and_updates_leave_them(
    new: Environment, kit: Path, tmp_path: Path
) -> None:
    for name in ("AGENTS.md", "CLAUDE.md"):
        (kit / "overlay" / name).write_text("Ours: see docs/template.md.\n")
    repository(kit, "v1.0.0")
    said = new.run("mlscaffold", "new", "digits", "--kit", kit.as_uri(), "--yes", cwd=tmp_path)
    assert "programs obey by name: AGENTS.md, CLAUDE.md" in said
    (kit / "overlay/AGENTS.md").write_text("Ours, and newer.\n")
    repository(kit, "v1.1.0")
    said = new.run("mlscaffold", "update", "--yes", cwd=tmp_path / "digits")
    assert "changed  AGENTS.md\n" in said
    assert (tmp_path / "digits/AGENTS.md").read_text() == "Ours, and newer.\n"
    commit(tmp_path / "digits")
    new.run("mlscaffold", "set", "serving=fastapi", "--yes", cwd=tmp_path / "digits")
    assert (tmp_path / "digits/AGENTS.md").read_text() == "Ours, and newer.\n"
    assert (tmp_path / "digits/CLAUDE.md").read_text() == "Ours: see docs/template.md.\n"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("name: acme", "name: A Kit", "Use lower case letters"),
        ("defaults:", "default:", "Did you mean defaults?"),
        ("precision: fp32", "precision: fp64", "'fp64' is not offered"),
        ("precision: fp32", "precison: fp32", "Did you mean precision?"),
        ("loggers: [tensorboard]", "loggers: yes", "is no list of names"),
        ('mlscaffold: ">=', 'mlscaffold: "about ', "Write versions such as"),
        ("locks:\n", "locks: [\n", "is not YAML"),
    ],
)
def test_a_mistake_in_a_kit_is_one_line_with_the_remedy(
    kit: Path, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    edit(kit / "kit.yml", old, new)
    refused = mlscaffold("new", "digits", "--kit", kit, cwd=tmp_path)
    assert refused.code == 1
    assert reason in refused.err
    assert "Traceback" not in refused.err
    assert not (tmp_path / "digits").exists()


def test_an_unknown_kit_names_what_there_is(tmp_path: Path) -> None:
    refused = mlscaffold("new", "digits", "--kit", "acme", cwd=tmp_path)
    assert refused.err.startswith("mlscaffold: 'acme' is no folder, no installed kit and no git address.")


def poison_copier(line: str) -> Callable[[Path], None]:
    def poison(kit: Path) -> None:
        edit(kit / "copier.yml", "_templates_suffix", f"{line}\n_templates_suffix")

    return poison


def poison_name(name: str) -> Callable[[Path], None]:
    def poison(kit: Path) -> None:
        path = kit / "overlay" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("owned\n")

    return poison


def poison_content(text: str) -> Callable[[Path], None]:
    def poison(kit: Path) -> None:
        (kit / "overlay/CODEOWNERS.jinja").write_text(text)

    return poison


def poison_link(place: str, to: str) -> Callable[[Path], None]:
    def poison(kit: Path) -> None:
        (kit / place).symlink_to(to)

    return poison


def poison_default(value: str) -> Callable[[Path], None]:
    def poison(kit: Path) -> None:
        edit(kit / "copier.yml", 'default: "@our-team"', f"default: '{value}'")

    return poison


def poison_subdirectory(value: str) -> Callable[[Path], None]:
    def poison(kit: Path) -> None:
        edit(kit / "copier.yml", "_subdirectory: overlay", f"_subdirectory: {value}")

    return poison


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch OWNED').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].system('touch OWNED') }}",
    "{{ (lipsum|attr('__globals__'))['os'].system('touch OWNED') }}",
    "{{ joiner.__init__.__globals__.os }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ team.__class__.__base__ }}",
    "{{ '{0.__class__}'.format(team).__class__.mro() }}",
    "{{ _copier_conf.__class__.__init__ }}",
    "{{ [].append.__self__.__class__.__mro__ }}",
    "{% include '/etc/passwd' %}",
    "{% include '../../../../etc/passwd' %}",
    "{% import '../kit.yml' as x %}{{ x.os }}",
    "{{ range(999999999) | list }}",
    "{{ undefined_name }}",
    "{% for",
]
NAMES = [
    ".git/hooks/post-checkout",
    ".git/config",
    ".GIT/hooks/pre-commit",
    ".Git /hooks/pre-commit",
    "git~1/hooks/pre-commit",
    "sub/.git/config",
    "sub/.git/hooks/post-merge",
    "{{ '..' }}/OWNED.jinja",
    "{{ '..' ~ _copier_conf.sep ~ '..' }}/OWNED.jinja",
    "a/{{ '..' ~ _copier_conf.sep ~ '..' }}/OWNED.jinja",
    "{{ _copier_conf.sep ~ 'tmp' ~ _copier_conf.sep ~ 'OWNED' }}.jinja",
    "{{ '..' ~ _copier_conf.sep ~ 'OWNED' }}.jinja",
    "{{ '..\\\\OWNED' }}.jinja",
    "{{ 'C:\\\\OWNED' }}.jinja",
    "{{ ''.__class__.__mro__ }}.jinja",
]
SETTINGS = [
    "_tasks: ['touch OWNED']",
    "_migrations: [{version: v1, command: 'touch OWNED'}]",
    "_jinja_extensions: [os.system]",
    "_external_data: {x: /etc/passwd}",
    "_message_before_copy: x",
    "_secret_questions: [team]",
]
LINKS = [
    ("overlay/link", "/etc/passwd"),
    ("overlay/folder", "/etc"),
    ("overlay/up", "../.."),
    ("overlay/self.jinja", "CODEOWNERS.jinja"),
    ("link.yml", "/etc/hostname"),
]
SUBDIRECTORIES = ["..", "/etc", "../acme/overlay", ".", "overlay/../../..", "missing"]
POISONS: dict[str, Callable[[Path], None]] = {
    **{text: poison_content(text) for text in ESCAPES},
    **{name: poison_name(name) for name in NAMES},
    **{line: poison_copier(line) for line in SETTINGS},
    **{f"{place} -> {to}": poison_link(place, to) for place, to in LINKS},
    **{f"_subdirectory {value}": poison_subdirectory(value) for value in SUBDIRECTORIES if value != "."},
    **{
        f"default {text}": poison_default(text)
        for text in ('{{ "".__class__.__mro__ }}', "{{ lipsum.__globals__ }}")
    },
    "_envops extensions": lambda kit: edit(
        kit / "copier.yml", "_envops:\n", "_envops:\n  extensions: [os.system]\n"
    ),
}


def snapshot(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_there_are_fifty_poisoned_kits() -> None:
    assert len(POISONS) >= 50


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_a_poisoned_kit_is_refused_and_nothing_is_written(
    kit: Path, tmp_path: Path, poison: Callable[[Path], None]
) -> None:
    poison(kit)
    before = snapshot(tmp_path)
    refused = mlscaffold("new", "digits", "--kit", kit, "--no-git", cwd=tmp_path)
    assert refused.code in (1, 2), refused.out
    assert refused.err.startswith("mlscaffold: ")
    assert "should not happen" not in refused.err
    assert snapshot(tmp_path) == before
    assert not Path("/tmp/OWNED").exists()


def repository(kit: Path, version: str) -> None:
    if not (kit / ".git").exists():
        git(kit, "init", "--quiet", "--initial-branch=main")
    commit(kit)
    git(kit, "tag", version)


def test_an_overlay_from_git_is_updated_in_the_same_run(new: Environment, kit: Path, tmp_path: Path) -> None:
    (kit / "overlay/CODEOWNERS.jinja").write_text("* {{ team }}\n# one\n# two\n# three\n# four\n")
    repository(kit, "v1.0.0")
    new.run("mlscaffold", "new", "digits", "--kit", kit.as_uri(), "--yes", cwd=tmp_path)
    project = tmp_path / "digits"
    assert stored(project, ".copier-answers.acme.yml")["_commit"] == "v1.0.0"
    edit(project / "CODEOWNERS", "# four", "# mine")
    commit(project)
    edit(kit / "overlay/CODEOWNERS.jinja", "# one", "# ONE")
    edit(kit / "kit.yml", "precision: fp32", "precision: bf16")
    repository(kit, "v1.1.0")

    said = new.run("mlscaffold", "update", "--yes", cwd=project)

    assert ".copier-answers.acme.yml: v1.0.0 -> v1.1.0" in said
    assert (project / "CODEOWNERS").read_text() == "* @our-team\n# ONE\n# two\n# three\n# mine\n"
    assert stored(project)["precision"] == "bf16"  # the kit's new lock
    commit(project)
    refused = new.run("mlscaffold", "set", "precision=fp16", cwd=project, code=2)
    assert "the kit acme locks precision=bf16" in refused
    new.run("mlscaffold", "set", "team=@other", "--yes", cwd=project)
    assert (project / "CODEOWNERS").read_text().startswith("* @other\n")


def test_copier_alone_updates_an_overlay_too(new: Environment, kit: Path, tmp_path: Path) -> None:
    repository(kit, "v1.0.0")
    new.run("mlscaffold", "new", "digits", "--kit", kit.as_uri(), "--yes", cwd=tmp_path)
    (kit / "overlay/MORE").write_text("more\n")
    repository(kit, "v1.1.0")
    new.run("copier", "update", "--answers-file", ".copier-answers.acme.yml", cwd=tmp_path / "digits")
    assert (tmp_path / "digits/MORE").read_text() == "more\n"


def test_a_kit_without_a_history_leaves_its_files_and_says_so(
    new: Environment, kit: Path, tmp_path: Path
) -> None:
    new.run("mlscaffold", "new", "digits", "--kit", kit, "--yes", cwd=tmp_path)
    said = new.run("mlscaffold", "set", "loggers=none", "--yes", cwd=tmp_path / "digits")
    assert ".copier-answers.acme.yml: made from a kit without a history; its files stay as they are" in said


def package(kit: Path, folder: Path, version: str) -> Path:
    """A package that holds a kit."""
    inside = folder / "acme_kit"
    shutil.copytree(kit, inside)
    (inside / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n"
        f"[project]\nname = 'acme-kit'\nversion = '{version}'\n"
        "[project.entry-points.'mlscaffold.kits']\nacme = 'acme_kit'\n"
        "[tool.hatch.build.targets.wheel]\npackages = ['acme_kit']\n"
    )
    settings = clean_settings() | {"PATH": str(Path(sys.executable).parent)}
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", cwd=folder, settings=settings)
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture
def with_kits(two_releases: object, tmp_path: Path) -> Environment:
    environment = Environment(tmp_path / "venv", tmp_path / "home")
    environment.home.mkdir()
    uv("venv", "--python", sys.executable, environment.folder)
    uv("pip", "install", "--python", environment.python, two_releases.new)  # type: ignore[attr-defined]
    return environment


def test_an_installed_kit_is_found_by_its_name_and_carries_its_releases(
    with_kits: Environment, kit: Path, tmp_path: Path
) -> None:
    install = ("pip", "install", "--python", with_kits.python)
    with_kits.run("mlscaffold", "kit", "release", kit, "1.0.0", cwd=tmp_path)
    uv(*install, package(kit, tmp_path / "one", "1.0.0"))
    assert "acme: What our projects begin with." in with_kits.run("mlscaffold", "kit", "list", cwd=tmp_path)
    with_kits.run("mlscaffold", "new", "digits", "--kit", "acme", "--yes", cwd=tmp_path)
    project = tmp_path / "digits"
    origin = stored(project, ".copier-answers.acme.yml")
    assert (origin["_src_path"], origin["_commit"]) == ("git+mlscaffold::acme", "v1.0.0")

    (kit / "overlay/MORE").write_text("more\n")
    with_kits.run("mlscaffold", "kit", "release", kit, "1.1.0", cwd=tmp_path)
    uv(*install, package(kit, tmp_path / "two", "1.1.0"))
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", project, clone, cwd=tmp_path)
    with_kits.run("mlscaffold", "update", "--yes", cwd=project)
    with_kits.run("copier", "update", "--answers-file", ".copier-answers.acme.yml", cwd=clone)
    assert (project / "MORE").read_text() == (clone / "MORE").read_text() == "more\n"


def test_an_answers_file_from_a_stranger_starts_no_program(new: Environment, tmp_path: Path) -> None:
    new.run("mlscaffold", "new", "digits", "--yes", cwd=tmp_path)
    project = tmp_path / "digits"
    for address in (
        "ext::sh -c touch% OWNED",
        "git+ext::sh -c touch% OWNED",
        "--upload-pack=touch OWNED",
        "git+mlscaffold::../x",
    ):
        edit(project / ".copier-answers.yml", "git+mlscaffold::default", address)
        commit(project)
        said = new.run("mlscaffold", "update", "--yes", cwd=project, code=1)
        assert "Traceback" not in said
        git(project, "reset", "--quiet", "--hard", "HEAD~1")
    assert not [path for path in (*tmp_path.rglob("OWNED"), Path("OWNED")) if path.exists()]
    assert os.environ["PATH"]


def test_ctrl_c_ends_the_proof_of_a_kit_with_130_and_leaves_nothing(kit: Path, tmp_path: Path) -> None:
    edit(
        kit / "kit.yml",
        "locks:\n",
        "locks:\n  strategy: single\n  hpo: none\n  serving: none\n  loggers: []\n",
    )
    (tmp_path / "temporary").mkdir()
    child = terminal("kit", "check", "--train", str(kit), cwd=tmp_path, TMPDIR=str(tmp_path / "temporary"))
    child.expect_exact("every file parses")
    child.send(CTRL_C)  # while the first project trains
    child.expect(pexpect.EOF)  # no program that it started has the terminal any more
    child.close()
    assert child.exitstatus == 130
    assert child.before.splitlines()[-1].strip() == "mlscaffold: Stopped."
    assert not list((tmp_path / "temporary").iterdir())
