"""Judge the files of a kit by their names: what tools obey unasked, what Python imports by chance."""

import re
from collections.abc import Collection, Iterable, Mapping

from mlscaffold.errors import KitError
from mlscaffold.system.paths import folded, odd, refuse_twins

# What Python, pip, uv, mlscaffold and matplotlib obey unasked, and what holds code that nobody can read.
REFUSED = re.compile(
    r"""(sitecustomize|usercustomize)(\.py)?
    | \.venv | venv | pyvenv\.cfg | __pycache__
    | .*\.(pth|pyc|pyo|pyd|so|dll|dylib|egg|egg-link|egg-info|dist-info)
    | uv\.(toml|lock) | pylock(\..*)?\.toml | \.python-versions? | pip\.(conf|ini)
    | matplotlibrc | \.pdbrc | \.pypirc | [._]netrc | hatch\.toml | \.copier-answers.*""",
    re.VERBOSE,
)
WANDB = re.compile("wandb/settings")  # another server gets the key of the user

# Where a module in the project is no module that something could import by chance.
FOLDERS = {"assets", "benchmarks", "configs", "docs", "examples", "notebooks", "scripts", "tools"}
TOOLS = {"conftest.py", "dodo.py", "fabfile.py", "noxfile.py", "setup.py", "tasks.py"}

# At the root, files that people read.
READ = re.compile(r"(authors|citation|codeowners|copying|licen[cs]e|notice)(\..*)?|.*\.(md|rst|bib)")
# In any folder: what assistants take for instructions of the user, what Windows and desktops obey once they
# show a folder or open a file, and what builders, tests and notebooks look for.
HEEDED = re.compile(
    r"""(agents|claude|gemini|qwen|warp|crush)(\.(local|override))?\.md | skill\.md | copilot.*\.md
    | .*\.(agent|chatmode|instructions|prompt)\.md | .*\.(mdc|cursorrules|code-workspace)
    | autorun\.inf | desktop\.ini | .*\.(lnk|url|scf|desktop|webloc|hta)
    | .*\.(library-ms|search-ms|searchconnector-ms)
    | .*\.(bat|cmd|com|exe|msi|pif|ps1|psm1|scr|vbs|wsf)
    | conftest\.py | conf\.py | setup\.(py|cfg) | (gnu)?makefile | justfile | taskfile\.ya?ml | package\.json
    | (pyproject|pytest|ruff)\.toml | (pytest|tox|mypy)\.ini | mkdocs\.ya?ml | (docker|container)file
    | (jupyter|ipython).*config\.(py|json)""",
    re.VERBOSE,
)


def refuse_obeyed(project: Collection[str], overlay: Collection[str], answers_file: str) -> None:
    """Refuse files of a kit that tools obey unasked, that Python takes for modules of others, and twins."""
    refuse_each(project, overlay, answers_file)
    known: dict[str, str] = {}
    for path in (*project, *overlay):
        refuse_twins(path, known)


def refuse_each(project: Collection[str], names: Iterable[str], answers_file: str) -> None:
    """Refuse names of files that a kit may write, though not all of them together."""
    modules = {path.removesuffix(".py") for path in project if path.endswith(".py")}
    packages = {"/".join(path.split("/")[:2]) for path in project if re.fullmatch("src/.+/.+", path)}
    for path in names:
        if wrong := odd(path):
            raise KitError(f"The kit writes {path}, which {wrong}.", "Nothing was written.")
        if reason := _obeyed_unasked(path, answers_file) or _importable(path, modules, packages):
            raise KitError(f"The kit writes {path}: {reason}.", "Nothing was written.")


def _obeyed_unasked(path: str, answers_file: str) -> str:
    if path == answers_file:
        return ""
    if WANDB.fullmatch(folded(path)) or any(REFUSED.fullmatch(folded(part)) for part in path.split("/")):
        return "programs obey it by its name, unasked"
    return ""


def _importable(path: str, modules: Collection[str], packages: Collection[str]) -> str:
    """Why Python would import a file without being asked for it; nothing when it would not."""
    top, *below = folded(path).split("/")
    parents = {"/".join(path.split("/")[:number]) for number in range(1, path.count("/") + 1)}
    if parents & set(modules):
        return "Python takes its folder for a module of the project"
    if not path.endswith(".py"):
        return ""
    if top == "src":
        if "/".join(path.split("/")[:2]) in packages:
            return ""
        return "Python finds it before installed packages; put it into the project's package"
    if (not below and top not in TOOLS) or (below and top.isidentifier() and top not in FOLDERS | {"tests"}):
        return "Python finds it before installed packages; put it into a folder such as scripts"
    return ""


def obeyed(project: Mapping[str, object], overlay: Iterable[str], answers_file: str) -> list[str]:
    """Name the files of a kit that tools may obey by their names, such as editors, hooks, CI and make."""
    packages = {"/".join(path.split("/")[:2]) for path in project if re.fullmatch("src/.+/.+", path)}
    return sorted(path for path in overlay if path != answers_file and not _is_quiet(path, packages))


def _is_quiet(path: str, packages: Collection[str]) -> bool:
    top, *below = folded(path).split("/")
    if any(part.startswith(".") or HEEDED.fullmatch(part) for part in (top, *below)):
        return False
    if not below:
        return bool(READ.fullmatch(top))
    return top in FOLDERS or "/".join(path.split("/")[:2]) in packages
