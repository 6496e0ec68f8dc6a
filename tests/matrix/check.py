"""Stage 2: every file of every project is clean; contents that are the same are looked at once."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from tests.matrix.generate import Problems
from tests.matrix.inside import PACKAGE
from tests.support.projects import Rendered, tool, write
from tests.template.test_generated import (
    BROUGHT,
    NO_CODE,
    TOOLS,
    cover,
    imported,
    names,
    parse,
    requirements,
    says,
    strangers,
)


def check_files(projects: Iterable[tuple[str, Rendered]]) -> Problems:
    """Whatever can be told by looking at one project."""
    found = {}
    for name, project in projects:
        wrong = [wrong_in(file, content) for file, content in project.files.items()]
        wrong += [wrong_dependencies(project), wrong_words(project)]
        found[name] = "\n".join(filter(None, wrong))
    return {name: problem for name, problem in found.items() if problem}


@cache
def wrong_in(name: str, content: str) -> str:
    """A file that does not parse, or in which something of the template is left."""
    try:
        parse(name, content)
    except Exception as error:  # of whichever parser
        return f"{name} does not parse: {error}"
    left = None if name.startswith(".github/") else re.search(r"\{\{|\{%|\{#|#:", content)
    return f"{name} still holds {left[0]!r}" if left else ""


def wrong_dependencies(project: Rendered) -> str:
    needed = imported(project.sources.values())
    runtime, dev = names(requirements(project)), names(requirements(project, "dev"))
    of_tests = imported(project.tests.values())
    wrong = []
    if (differ := runtime ^ needed) - BROUGHT:
        wrong.append(f"dependencies: {sorted(differ - BROUGHT)} stand there or are imported, not both")
    if missing := of_tests - runtime - dev:
        wrong.append(f"the dev extra lacks {sorted(missing)}")
    unused = {name for name in dev - of_tests - set(TOOLS) if not name.startswith("types-")}
    if unused:
        wrong.append(f"the dev extra has {sorted(unused)}, which no test imports")
    return "\n".join(wrong)


def wrong_words(project: Rendered) -> str:
    """What a file says of a choice that was not made."""
    own = {name: text for name, text in project.files.items() if name not in NO_CODE}
    found = [
        f"{name} says {value}"
        for value, pattern in strangers(project)
        for name, text in own.items()
        if says(pattern, name, text)
    ]
    return "\n".join(found)


def check_with_ruff(projects: Sequence[tuple[str, Rendered]]) -> Problems:
    """Lint each content once, under the settings of the first project that has it."""
    holders: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    fresh: dict[str, dict[str, str]] = {}
    for name, project in projects:
        ruff = project.files["pyproject.toml"].partition("[tool.ruff]")[2].partition("[tool.mypy]")[0]
        keys = {file: (file, text, ruff) for file, text in project.python.items()}
        fresh[name] = {file: project.files[file] for file, key in keys.items() if key not in holders}
        for key in keys.values():
            holders[key].append(name)
    by_name = dict(projects)
    wrong: Problems = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        numbered = {str(number): name for number, name in enumerate(n for n, files in fresh.items() if files)}
        for number, name in numbered.items():
            project = by_name[name]
            known = dict.fromkeys(project.sources, "")  # ruff tells our imports from others by their files
            settings = {"pyproject.toml": project.files["pyproject.toml"]}
            write(Rendered(project.answers, known | fresh[name] | settings), folder / number)
        said = tool("ruff", "check", "--no-cache", "--output-format=concise", folder, cwd=folder)
        said += tool("ruff", "format", "--check", "--no-cache", folder, cwd=folder)
    for line in said.splitlines():
        if found := re.search(r"(?:^|/| )(\d+)/((?:src|tests)/[^:]+\.py)", line):
            content = by_name[numbered[found[1]]].files[found[2]]
            for key, who in holders.items():
                if key[:2] == (found[2], content):
                    wrong |= {name: f"{wrong.get(name, '')}{line}\n" for name in who}
    if said and not wrong:
        wrong[projects[0][0]] = said
    return wrong


def check_types(projects: Sequence[tuple[str, Rendered]], cache_folder: Path) -> Problems:
    """Check a cover with mypy, all projects with the same settings at once: what torch holds is read once.

    The packages stand side by side under names of their own, which their relative imports do not mention.
    """
    together: dict[str, list[tuple[str, Rendered]]] = defaultdict(list)
    for name, project in projects:
        together[mypy_settings(project)].append((name, project))
    wrong: Problems = {}
    for settings, group in together.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "pyproject.toml").write_text(settings)
            for number, (_, project) in enumerate(group):
                for file, text in project.sources.items():
                    path = folder / file.replace(PACKAGE, f"number_{number}")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
            packages = [f"--package=number_{number}" for number in range(len(group))]
            said = tool("mypy", f"--cache-dir={cache_folder}", *packages, cwd=folder)
        for line in said.splitlines():
            if found := re.search(r"number_(\d+)", line):
                name = group[int(found[1])][0]
                wrong[name] = f"{wrong.get(name, '')}{line}\n"
        if said and not wrong:
            wrong[group[0][0]] = said
    return wrong


def mypy_settings(project: Rendered) -> str:
    """The project's own, but for which packages there are."""
    lines = project.files["pyproject.toml"].partition("[tool.mypy]")[2].partition("[tool.pytest")[0]
    kept = [line for line in lines.splitlines() if not line.startswith("packages = ")]
    return "\n".join(["[tool.mypy]", *kept])


def cover_of_sources(projects: Sequence[tuple[str, Rendered]]) -> list[tuple[str, Rendered]]:
    """A few projects that together hold every distinct source."""
    name_of = {id(project): name for name, project in projects}
    return [(name_of[id(project)], project) for project in cover(project for _, project in projects)]
