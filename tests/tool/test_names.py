"""Names that would hide a module, break on some system or deceive the eye are refused, by Copier too."""

import keyword
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import copier
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlscaffold.catalogue.questions import Answers, Catalogue, read
from tests.support.command import mlscaffold, refused
from tests.support.projects import offered

# One of each kind; `None` is a name that stands.
PROJECTS = {
    "digits": None,
    "My-Project": None,
    "a": None,
    "net.v2": None,
    "x" * 64: None,
    "torch": "Python or a package that projects use has it",
    "Torch": "Python or a package that projects use has it",
    "scikit-learn": "Python or a package that projects use has it",
    "datasets": "Python or a package that projects use has it",
    "test": "Python or a package that projects use has it",
    "json": "Python or a package that projects use has it",
    "class": "Python or a package that projects use has it",
    "nul": "Windows keeps it for a device",
    "COM1": "Windows keeps it for a device",
    "aux.net": "Windows keeps it for a device",
    "": "needs a name",
    "a/b": "use ASCII letters",
    "..": "use ASCII letters",
    "a\\b": "use ASCII letters",
    "a b": "use ASCII letters",
    "a:b": "use ASCII letters",
    "a\nb": "use ASCII letters",
    "a\x1b[2J": "use ASCII letters",
    "{{ x }}": "use ASCII letters",
    "p\u0430per": "use ASCII letters",  # a Cyrillic a
    "\uff50aper": "use ASCII letters",  # a full-width p
    "paper\u200b": "use ASCII letters",  # a zero-width space
    "größe": "use ASCII letters",
    ".hidden": "begin and end it with",
    "-rf": "begin and end it with",
    "--yes": "begin and end it with",
    "name.": "begin and end it with",
    "name-": "begin and end it with",
    "x" * 65: "64 is the most",
}
PACKAGES = {
    "digits": None,
    "net_2": None,
    "2net": "begin with a letter",
    "my-net": "begin with a letter",
    "_net": "begin it with a letter",
    "Net": "write it in lower case",
    "torch": "Python or a package that projects use has it",
    "lambda": "Python or a package that projects use has it",
    "match": "Python or a package that projects use has it",
    "con": "Windows keeps it for a device",
    "n\u00e9t": "use ASCII letters",
    "\u212anet": "use ASCII letters",  # the Kelvin sign, which Python reads as k
    "net.x": "use ASCII letters",
    "": "use ASCII letters",
    "x" * 65: "64 is the most",
}
CASES = [("project", name, reason) for name, reason in PROJECTS.items()] + [
    ("package", name, reason) for name, reason in PACKAGES.items()
]


@pytest.fixture(scope="module")
def catalogue(repository: Path) -> Catalogue:
    return read(repository)


@pytest.fixture(scope="module")
def copy(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Answers], None]:
    """Let Copier judge answers by our catalogue, with no files to render."""
    root = tmp_path_factory.mktemp("rules")
    shutil.copy(repository / "copier.yml", root)
    shutil.copytree(repository / "templates/rules", root / "templates/rules")
    (root / "templates/project").mkdir()

    def run(answers: Answers) -> None:
        copier.run_copy(str(root), root / "out", data=dict(answers), defaults=True, quiet=True, pretend=True)

    return run


@pytest.fixture(scope="module")
def reserved(catalogue: Catalogue) -> set[str]:
    module = catalogue.environment.get_template("templates/rules/reserved.jinja").make_module()
    return {str(name) for name in vars(module)["reserved"]}


@pytest.mark.parametrize(("question", "name", "reason"), CASES)
def test_a_name_gets_the_same_verdict_from_the_catalogue_and_from_copier(
    catalogue: Catalogue, copy: Callable[[Answers], None], question: str, name: str, reason: str | None
) -> None:
    answers = {"project": "digits", "package": "digits", question: name}
    verdict = catalogue.objections(answers)
    assert set(verdict) == ({question} if reason else set())
    assert (reason or "") in verdict.get(question, "")

    if reason is None:
        copy(answers)
    else:
        with pytest.raises(ValueError, match=re.escape(verdict[question])):
            copy(answers)


@pytest.mark.parametrize("name", ["torch", "a/../b", "p\u0430per", "a\nb\x1b[2J", "{{ x }}", "", "x" * 300])
def test_the_command_line_refuses_a_bad_name_in_a_line(tmp_path: Path, name: str) -> None:
    said = refused("new", "here", f"--project={name}", cwd=tmp_path, code=2, lines=1)
    assert said.startswith("mlscaffold: --project: ")
    assert "\x1b" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["torch", "nul", "größe", ".hidden", "a b"])
def test_the_name_of_the_folder_is_held_to_the_same_rules(tmp_path: Path, name: str) -> None:
    assert f"mlscaffold: {name}: " in refused("new", name, cwd=tmp_path, code=2, lines=1)
    assert not list(tmp_path.iterdir())


def test_a_name_cannot_send_commands_to_the_terminal(tmp_path: Path) -> None:
    assert "\\x1b[2J" in refused("new", "a\x1b[2J", cwd=tmp_path, code=2, lines=1)


def test_a_folder_of_any_name_holds_a_project_that_is_named(tmp_path: Path) -> None:
    assert mlscaffold("new", "größe 2/torch", "--project", "digits", cwd=tmp_path).code == 0
    assert (tmp_path / "größe 2/torch/src/digits").is_dir()


def test_keywords_and_the_standard_library_are_reserved(reserved: set[str]) -> None:
    names = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names}
    public = {name.lower() for name in names if not name.startswith("_")}
    assert public - reserved == set()


def test_what_is_installed_beside_a_project_is_reserved_by_both_its_names(
    repository: Path, reserved: set[str]
) -> None:
    """A package named like a dependency of torch would hide it."""
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    modules = {
        module
        for module, owners in packages_distributions().items()
        if pinned & {canonicalize_name(owner) for owner in owners} and module.isidentifier()
    }
    names = {name.lower().replace("-", "_") for name in pinned | modules if name[0] not in "_0123456789"}
    assert sorted(names - reserved) == []


def test_what_a_project_depends_on_is_among_the_tested_versions(repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines}
    for text in {each.files["pyproject.toml"] for each in offered()}:
        project = tomllib.loads(text)["project"]
        for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
            assert canonicalize_name(Requirement(requirement).name) in pinned, requirement


def test_every_device_of_windows_is_reserved(catalogue: Catalogue) -> None:
    """https://learn.microsoft.com/windows/win32/fileio/naming-a-file"""
    devices = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
    for device in devices:
        assert "Windows" in catalogue.objections({"project": device})["project"]
        assert "Windows" in catalogue.objections({"project": f"{device.upper()}.x"})["project"]
        assert "Windows" in catalogue.objections({"project": "p", "package": device})["package"]
