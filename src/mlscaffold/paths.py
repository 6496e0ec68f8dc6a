"""Judge the paths that a stranger's template writes: what systems take otherwise, what tools obey by name."""

import re
from collections.abc import Collection, Iterable, Mapping
from unicodedata import normalize

from mlscaffold.errors import CatalogueError, KitError

DEVICES = {"aux", "clock$", "con", "conin$", "conout$", "nul", "prn"}
DEVICES |= {f"{name}{number}" for name in ("com", "lpt") for number in range(10)}
SHORT_NAME = re.compile(r"~\d")  # GIT~1 is how Windows calls .git, too

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


def folded(name: str) -> str:
    """Write a name as a file system does that tells neither case nor forms of Unicode apart."""
    return normalize("NFKC", "".join(sign for sign in name if sign.isprintable())).casefold()


def is_of_git(path: str) -> bool:
    """Tell whether a path leads into git's folder, however a system spells it."""
    parts = re.split(r"[/\\]", path)
    return any(re.fullmatch(r"\.git|git~\d+", folded(part).split(":")[0].rstrip(". ")) for part in parts)


def odd(path: str) -> str:
    """Why a path is not the same path everywhere; nothing for an ordinary one."""
    if is_of_git(path):
        return "is a file of git's own"
    for part in path.split("/"):
        if not part.isprintable() or any(sign in part for sign in '<>:"|?*\\'):
            return "has signs that are no part of a name everywhere"
        if part in (".", "..") or part != part.strip(" ").rstrip("."):
            return "begins or ends with what Windows takes away"
        if folded(part).split(".")[0].rstrip() in DEVICES:
            return "is a device on Windows"
        if SHORT_NAME.search(part):
            return "is another name of a file on Windows"
        if part.startswith("-"):
            return "begins with '-', as options of programs do"
    return ""


def refuse_odd(paths: Iterable[str]) -> None:
    """Refuse paths that lead elsewhere on another system, and those that are one and the same there."""
    known: dict[str, str] = {}
    for path in paths:
        if reason := odd(path):
            raise CatalogueError(f"A template names the file {path!r}, which {reason}.")
        _refuse_twins(path, known)


def _refuse_twins(path: str, known: dict[str, str]) -> None:
    """Refuse a path that differs from a known one in case alone, or is a file where that has a folder."""
    parts = path.split("/")
    for number in range(1, len(parts) + 1):
        place = "/".join(parts[:number]) + ("/" if number < len(parts) else "")
        other = known.setdefault(folded(place).rstrip("/"), place)
        if other != place:
            raise CatalogueError(
                f"The files {place!r} and {other!r} are one where case or forms of letters do not count."
            )


def refuse_obeyed(project: Collection[str], overlay: Collection[str], answers_file: str) -> None:
    """Refuse files of a kit that tools obey unasked, that Python takes for modules of others, and twins."""
    refuse_each(project, overlay, answers_file)
    known: dict[str, str] = {}
    for path in (*project, *overlay):
        _refuse_twins(path, known)


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
