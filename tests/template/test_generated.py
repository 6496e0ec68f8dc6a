"""Every combination that is offered is a clean project; identical files are looked at once."""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Set
from functools import cache
from importlib.metadata import packages_distributions
from itertools import chain, groupby
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlscaffold.catalogue.questions import Answer, Answers
from tests.conftest import Say
from tests.support.projects import CATALOGUE, Rendered, distinct, offered, rendered, tool, write
from tests.support.releases import CONSTRAINTS, ROOT

# Lines of code of the smallest projects: decision 5. Of what is under src/ without loggers and the report, of
# what belongs to the task, and of what is read to understand the loop.
SMALLEST: Answers = {"strategy": "single", "loggers": [], "hpo": "none", "serving": "none"}
MOST_CODE, MOST_OF_TASK, MOST_OF_LOOP = 1697, 250, 271
APART = {"training/loggers.py", "runs/report.py"}
LOOP = {"training/engine.py", "training/step.py", "training/state.py", "training/run.py"}
MOST_OF_SERVING = 617  # that serving=fastapi adds; 45 of them write the folder for hubs
MYPY_CACHE = ROOT / ".mypy_cache"
MOST_LINES = 39  # of a function

# A name that brings in a distribution which its own import does not name.
BEHIND = {
    "MLFlowLogger": "mlflow",
    "onnx": "onnxscript",
    "Request": "python-multipart",
    "SummaryWriter": "tensorboard",
    "TensorBoardLogger": "tensorboard",
    "WandBLogger": "wandb",
    "WandbLogger": "wandb",
}
# What a project does not import itself, and of which it takes no old version (docs/floors.md).
BROUGHT = {"onnx", "protobuf"}
# What a project runs rather than imports, and where it is set up.
TOOLS = {
    "mypy": ("pyproject.toml", "[tool.mypy]"),
    "pre-commit": (".pre-commit-config.yaml", "repos:"),
    "ruff": ("pyproject.toml", "[tool.ruff]"),
}
INCLUDED = {"export": {"fastapi", "litserve"}}  # choices that bring the one on the left with them
# What tells that code is about a choice, where its value alone does not.
WORDS = {
    "single": "",
    "ddp": "DistributedDataParallel|DDPStrategy",
    "fsdp": "fully_shard|ModelParallelStrategy|DTensor",
    "export": r"torch\.export|onnx|\.export\b",  # profilers, exporters and uv export things too
    "tensorboard": "(?i:tensorboard)(?!_trace_handler)",  # torch's own, which needs no TensorBoard
    "fastapi": "build_app",  # LitServe's own service is a FastAPI app too
}
NO_CODE = {".copier-answers.yml", "README.md", "docs/template.md"}
SAME_WORD = {"precision"}  # any project can run in each; the answer is but the default

NASTY = {
    "quotes": """It's "quoted", '''so''' and \"\"\"so\"\"\", and ends in a backslash \\""",
    "lines": "Two\nlines, a\ttab, and\r\na Windows line",
    "templates": "{{ project }} {% raw %} {# comment #} ${{ x }} #: if y",
    "letters": "Größe, 猫, 🎉, e\u0301",
    "yaml": "- yes: no # not a comment [a, b] & * ! | > %",
}


def parse(name: str, content: str) -> None:
    if name.endswith(".py"):
        ast.parse(content, name)
    elif name.endswith(".toml"):
        assert tomllib.loads(content)
    elif name.endswith((".yml", ".yaml")):
        assert list(yaml.safe_load_all(content))


owners = cache(packages_distributions)  # the distributions that a module belongs to


def imported(sources: Iterable[str]) -> set[str]:
    """The distributions that sources import, by the names that other projects know them by."""
    return set().union(*map(imported_by, sources))


@cache
def imported_by(source: str) -> frozenset[str]:
    modules, names = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module.partition(".")[0])
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)  # such as pl.loggers.TensorBoardLogger
    direct = {name for module in modules for name in owners_of(module)}
    return frozenset(direct | {BEHIND[name] for name in names & set(BEHIND)})


def owners_of(module: str) -> Set[str]:
    """The distribution of the same name, where several share a module; else all of them."""
    found = {canonicalize_name(owner) for owner in owners().get(module, [])}
    return found & {canonicalize_name(module)} or found


def document(project: Rendered) -> dict[str, Any]:
    """The project's `pyproject.toml`."""
    return parsed(project.files["pyproject.toml"])


parsed = cache(tomllib.loads)


def requirements(project: Rendered, extra: str = "") -> list[Requirement]:
    metadata = document(project)["project"]
    lines = {"": metadata["dependencies"], "build": document(project)["build-system"]["requires"]}
    return [requirement(line) for line in (lines | metadata["optional-dependencies"])[extra]]


requirement = cache(Requirement)


def names(found: Iterable[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in found}


def check_with_ruff(projects: Iterable[Rendered], folder: Path) -> None:
    """Check the files of these projects that none of those before had, each under its project's settings.

    Modules that were checked before lie there empty: ruff tells our imports from others by their files.
    """
    seen: set[tuple[str, str, str]] = set()
    for number, project in enumerate(projects):
        settings = str(document(project)["tool"]["ruff"])
        fresh = {name: text for name, text in project.python.items() if (name, text, settings) not in seen}
        seen |= {(name, text, settings) for name, text in fresh.items()}
        known = {"pyproject.toml": project.files["pyproject.toml"], **dict.fromkeys(project.sources, "")}
        if fresh:
            write(Rendered(project.answers, known | fresh), folder / str(number))
    assert tool("ruff", "check", "--no-cache", folder, cwd=folder) == ""
    assert tool("ruff", "format", "--check", "--no-cache", folder, cwd=folder) == ""


def check_with_mypy(projects: Iterable[Rendered], folder: Path) -> None:
    """Check projects side by side, under the settings of all; names of their packages differ in the end.

    What mypy has read of torch, it remembers, here and in `make lint`.
    """
    chosen = []
    for number, project in enumerate(projects):
        name = Path(next(iter(project.sources))).parts[1]
        chosen += ["-p", f"{name[:-2]}{number:02}"]
        write(rendered({**project.answers, "package": chosen[-1]}), folder)
    (folder / "mypy.ini").write_text(mypy_settings(projects))
    assert tool("mypy", f"--cache-dir={MYPY_CACHE}", *chosen, cwd=folder) == ""


def mypy_settings(projects: Iterable[Rendered]) -> str:
    """The settings of several projects, which differ in the modules that are treated otherwise."""
    documents = [document(project)["tool"]["mypy"] for project in projects]
    common = {name: value for name, value in documents[0].items() if name not in ("packages", "overrides")}
    sections = {"mypy": common}
    for override in chain.from_iterable(settings.get("overrides", []) for settings in documents):
        options = {name: value for name, value in override.items() if name != "module"}
        sections |= {f"mypy-{module}": options for module in override["module"]}
    lines: list[str] = []
    for section, options in sections.items():
        values = {name: ",".join(v) if isinstance(v, list) else v for name, v in options.items()}
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
    return "\n".join(lines)


def treated(project: Rendered) -> set[str]:
    """The modules that a project's mypy treats otherwise, without their submodules."""
    overrides = document(project)["tool"]["mypy"].get("overrides", [])
    return {module.removesuffix(".*") for override in overrides for module in override["module"]}


def cover(projects: Iterable[Rendered]) -> list[Rendered]:
    """A few projects that together hold every distinct source."""
    todo = {project: set(project.sources.items()) for project in projects}
    chosen = []
    while todo and (best := max(todo, key=lambda project: len(todo[project]))) and todo[best]:
        chosen.append(best)
        done = todo.pop(best)
        todo = {project: contents - done for project, contents in todo.items()}
    return chosen


def test_every_file_parses_and_holds_no_trace_of_a_template() -> None:
    for name, content, project in distinct():
        parse(name, content)
        if not name.startswith(".github/"):
            assert not re.search(r"\{\{|\{%|\{#|#:", content), (name, str(project))


def test_every_text_file_ends_in_one_line_end_and_no_line_in_blanks() -> None:
    for name, content, project in distinct():
        assert content.removesuffix("\n") == content.rstrip(), (name, str(project))
        assert not re.search(r"[ \t]$|\r|\n{4}", content, re.MULTILINE), (name, str(project))


def test_a_table_or_heading_of_a_page_stands_apart_from_what_follows() -> None:
    """Else a page shows a paragraph as a row; a statement of the template can swallow the line between."""
    for name, content, project in distinct():
        if name.endswith(".md"):
            assert not re.search(r"^\|.*\n(?=[^|\n])", content, re.MULTILINE), (name, str(project))
            assert not re.search(r"[^\n]\n#+ ", _prose(content)), (name, str(project))


def _prose(page: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"```.*?```", "", page, flags=re.DOTALL)


def test_ruff_passes_on_every_file_under_the_settings_of_its_project(tmp_path: Path) -> None:
    check_with_ruff(offered(), tmp_path)


@pytest.mark.long
def test_mypy_passes_on_projects_that_together_hold_every_source(tmp_path: Path) -> None:
    check_with_mypy(cover(offered()), tmp_path)


def test_mypy_is_told_of_the_modules_without_type_hints_that_a_project_imports_and_of_no_others() -> None:
    every = set().union(*map(treated, offered()))
    for project in offered():
        used = set().union(*map(roots, project.python.values())) & every
        assert used <= treated(project) <= used | {"sklearn"}, str(project)  # which all tasks but one import


@cache
def roots(source: str) -> frozenset[str]:
    """The top-level names of what a source imports."""
    nodes = [*ast.walk(ast.parse(source))]
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    return frozenset(name.partition(".")[0] for name in found)


def test_a_project_depends_on_what_it_imports_and_on_nothing_else() -> None:
    for project in offered():
        assert names(requirements(project)) - BROUGHT == imported(project.sources.values()) - BROUGHT, project


def test_the_dev_extra_holds_what_the_tests_import_and_the_tools_that_are_set_up() -> None:
    for project in offered():
        runtime, dev = names(requirements(project)), names(requirements(project, "dev"))
        hints = {name for name in dev if name.startswith("types-")}
        assert imported(project.tests.values()) - runtime <= dev, project
        assert dev - hints - set(TOOLS) <= imported(project.tests.values()), project
        assert {name.removeprefix("types-") for name in hints} <= runtime, project
        for file, setting in (TOOLS[name] for name in dev & set(TOOLS)):
            assert setting in project.files[file], project


def test_each_dependency_is_bounded_on_both_sides_and_takes_the_tested_version() -> None:
    pins = (line.split("==") for line in CONSTRAINTS.read_text("utf-8").split())
    tested = {canonicalize_name(name): version for name, version in pins}
    for project in offered():
        for requirement in chain(*(requirements(project, extra) for extra in ("", "dev", "build"))):
            assert requirement.specifier.contains(tested[canonicalize_name(requirement.name)]), requirement
            operators = {bound.operator for bound in requirement.specifier}
            assert operators == {">=", "<"} or requirement.name.startswith("types-"), requirement


def strangers(project: Rendered) -> Iterator[tuple[str, str]]:
    """A pattern for every choice of the core matrix that a project was not generated for."""
    for question in CATALOGUE.questions:
        if not question.core or question.name in SAME_WORD:
            continue
        for choice in question.choices:
            value, answer = str(choice.value), project.answers[question.name]
            answers = {str(one) for one in answer} if isinstance(answer, list) else {str(answer)}
            chosen = value in answers or answers & INCLUDED.get(value, set())
            if not chosen and value != "none" and WORDS.get(value, value):
                yield value, WORDS.get(value, f"(?i:{value})")


def test_no_file_says_a_word_of_what_was_not_chosen() -> None:
    """But for the answers, and the README, which says what else there is."""
    for project in offered():
        own = {name: text for name, text in project.files.items() if name not in NO_CODE}
        for value, pattern in strangers(project):
            found = [name for name, text in own.items() if says(pattern, name, text)]
            assert not found, f"{value} in {found} of {project}"


@cache
def says(pattern: str, name: str, text: str) -> bool:
    return bool(re.search(pattern, f"{name}\n{text}"))


def test_the_frameworks_have_the_same_files_and_all_but_the_seams_are_equal() -> None:
    different = set()
    for _, group in groupby(sorted(offered(), key=others), key=others):
        first, *more = group
        for second in more:
            assert set(first.files) == set(second.files)
            different |= {name for name, content in first.files.items() if second.files[name] != content}
    seams = {"training/engine", "training/step", "distributed/parallel", "distributed/pretended"}
    ours = {f"src/my_project/{seam}.py" for seam in seams}
    assert different == ours | {"pyproject.toml", ".copier-answers.yml", "docs/template.md"}


def others(project: Rendered) -> str:
    return str({name: answer for name, answer in project.answers.items() if name != "framework"})


def test_no_function_is_longer_than_a_thought() -> None:
    for name, content, project in distinct():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(content)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    assert lines <= MOST_LINES, f"{name}: {node.name} has {lines} lines in {project}"


def test_a_test_of_a_project_calls_what_it_defines() -> None:
    """A coroutine that nobody runs asserts nothing, and its test passes."""
    for name, content, project in distinct():
        if name.startswith("tests/") and name.endswith(".py"):
            for test in ast.walk(ast.parse(content)):
                if isinstance(test, ast.FunctionDef):
                    used = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
                    inner = [n for n in test.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
                    unused = {n.name for n in inner if not n.decorator_list} - used
                    assert not unused, f"{name}: {test.name} does not use {unused} in {project}"


@cache
def code_lines(source: str) -> int:
    """Lines that hold more than a comment or a docstring."""
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in ignored | {tokenize.ENDMARKER}:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(lines)


def test_a_line_of_code_is_neither_blank_nor_a_comment_nor_a_docstring() -> None:
    source = (
        '"""A\n\nmodule."""\n\n# why\nx = """a\n\nb"""  # unit\ny = [\n    1,\n]\nclass A:\n    """B."""\n'
    )
    assert code_lines(source) == 3 + 3 + 1


def test_a_service_stays_small(say: Say) -> None:
    """The size of the smallest projects, and what each choice adds to them, is printed."""
    say("Python under src/, lines in all / lines of code:")
    for framework in CATALOGUE["framework"].values:
        smallest = size({**SMALLEST, "framework": framework})
        say(f"{smallest[0]:6} {smallest[1]:6}  {framework}, with nothing else")
        for name, value in others_than({**SMALLEST, "framework": framework}):
            lines, code = size({**SMALLEST, "framework": framework, name: value})
            say(f"{lines - smallest[0]:+6} {code - smallest[1]:+6}  {name}={value}")
        served = size({**SMALLEST, "framework": framework, "serving": "fastapi"})
        assert served[1] - smallest[1] <= MOST_OF_SERVING


def test_the_smallest_projects_hold_to_the_bounds(say: Say) -> None:
    """Of each framework: all that is under `src/`, the task, and the loop."""
    for framework in CATALOGUE["framework"].values:
        found = rendered({**SMALLEST, "framework": framework}).sources.items()
        lines = {name.partition("/my_project/")[2]: code_lines(text) for name, text in found}
        code = sum(lines[name] for name in lines.keys() - APART)
        task = sum(number for name, number in lines.items() if name.startswith("task/"))
        loop = sum(lines[name] for name in LOOP)
        say(f"{framework}: {code} lines of code, {task} of them in task/, {loop} to understand the loop")
        assert (code <= MOST_CODE, task <= MOST_OF_TASK, loop <= MOST_OF_LOOP) == (True, True, True)


def size(answers: Answers) -> tuple[int, int]:
    """Lines in all, and lines of code."""
    sources = rendered(answers).sources.values()
    return sum(len(source.splitlines()) for source in sources), sum(map(code_lines, sources))


def others_than(answers: Answers) -> Iterator[tuple[str, Answer]]:
    """Each answer that changes one of these, or adds to them."""
    for question in CATALOGUE.questions:
        if question.values and question.name != "framework":
            default = CATALOGUE.resolve(answers)[question.name]
            values = (
                [[choice.value] for choice in question.choices] if question.multiselect else question.values
            )
            others = (cast("Answer", value) for value in values if value != default)
            found = ((question.name, value) for value in others)
            yield from (pair for pair in found if not CATALOGUE.objections({**answers, **dict([pair])}))


@pytest.mark.parametrize("description", NASTY.values(), ids=NASTY)
def test_a_nasty_description_gives_clean_projects(description: str, tmp_path: Path) -> None:
    check_odd(tmp_path, {"description": description})


def test_the_longest_name_gives_clean_projects(tmp_path: Path) -> None:
    check_odd(tmp_path, {"project": "long-name-" + "x" * 54})


def check_odd(folder: Path, answers: dict[str, str]) -> None:
    """Check one project of each framework, with all else that can be had."""
    largest = {
        question.name: question.values[-1]
        for question in CATALOGUE.questions
        if question.core and question.values and question.name != "framework"
    }
    frameworks = CATALOGUE["framework"].values
    projects = [rendered({**largest, **answers, "framework": framework}) for framework in frameworks]
    for project in projects:
        assert CATALOGUE.objections({**project.answers}) == {}
        for name, content in project.files.items():
            parse(name, content)
    check_with_ruff(projects, folder)
