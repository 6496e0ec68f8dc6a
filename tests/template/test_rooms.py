"""The rooms of a project: imports go one way, and only the task knows what it is about."""

import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter

from tests.matrix.programs import ROOT as PACKAGE
from tests.matrix.programs import imports, path_of
from tests.support.projects import Rendered, distinct, offered
from tests.support.releases import ROOT

STUBS = ROOT / "templates/project"
OF_TASK = '"templates/tasks/'  # in the stub of a file that comes with the task
HELPERS = {
    path.name.partition(".")[0]
    for path in STUBS.glob("src/*/*.py.jinja")
    if OF_TASK in path.read_text("utf-8")
} | {
    "pretrained",
    "splits",
}  # modules beside `task/`, which no other than it calls, but for what an export writes
TESTS_OF_TASK = {
    f"tests/{path.name.removesuffix('.jinja')}"
    for path in STUBS.glob("tests/*.py.jinja")
    if OF_TASK in path.read_text("utf-8")
} | {"tests/test_splits.py"}

# Each room imports from those above it, and from itself if it is a folder.
ORDER = (
    {"errors", "interface", "paths", "seeding", "tuning"},
    HELPERS,  # of each other, too
    {"task"},
    {"addresses", "config"},
    {"distributed"},
    {"runs"},
    {"training"},
    {"trained"},
    {"search", "serving"},
    {"check_world", "evaluate", "export", "predict", "serve", "train", "tune"},  # the commands
)
LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
UPWARDS = {("search", "train")}  # a trial is a run as any other

# What the default task is about, and what other packages call things by the same words.
WORDS = re.compile(r"images?|class(es)?|classif\w*|classes|logits?|pixels?|confusion")
FOREIGN = {"add_class_arguments", "formatter_class"}
OF_LOGGERS = {"image", "images", "pixels"}  # of pictures that show how a run went
LOGGERS = {f"{PACKAGE}/training/{name}.py" for name in ("loggers", "pictures", "wandb_run")}


def room(module: str) -> str:
    return module.partition(".")[0]


def module_of(path: str) -> str:
    """The name of a module within the package; of the package itself, nothing."""
    inner = path.removeprefix(f"{PACKAGE}/").removesuffix(".py").replace("/", ".")
    return inner.removesuffix("__init__").removesuffix(".")


def imported(project: Rendered, path: str) -> set[str]:
    """The modules of the package that one of them imports, at once or later."""
    module, source = module_of(path), project.files[path]
    package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
    found = {name for name in imports(source, package) if path_of(project, name)}
    return {name for name in found if name and not any(more.startswith(f"{name}.") for more in found)}


def test_each_module_has_its_room() -> None:
    for name, _, project in distinct():
        if name.startswith(f"{PACKAGE}/") and name.endswith(".py") and module_of(name):
            assert room(module_of(name)) in LEVELS, f"{name} in {project}: say where it belongs in ORDER"


def test_rooms_import_one_way() -> None:
    for name, _, project in distinct():
        if name in project.sources:
            own = room(module_of(name))
            for other in map(room, imported(project, name)):
                down = LEVELS.get(other, -1) < LEVELS.get(own, len(ORDER))
                within = own == other and f"{PACKAGE}/{own}.py" not in project.files
                open_to = within or {own, other} <= HELPERS or (own, other) in UPWARDS
                assert down or open_to, f"{name} imports {other} in {project}"


def test_no_module_imports_itself_through_others() -> None:
    for project in offered():
        graph = {module_of(path): imported(project, path) - {module_of(path)} for path in project.sources}
        TopologicalSorter(graph).prepare()  # raises for a circle, and names it


def test_nothing_but_the_task_knows_what_it_is_about() -> None:
    for name, content, project in distinct():
        own = name.startswith(f"{PACKAGE}/task/") or name in TESTS_OF_TASK or module_of(name) in HELPERS
        if name.endswith(".py") and not own:
            found = {word for word in said(content) if WORDS.fullmatch(word)}
            assert not found - (OF_LOGGERS if name in LOGGERS else set()), f"{name}: {found} in {project}"


@cache
def said(source: str) -> frozenset[str]:
    """The words of a source in lower case: of comments, texts and the parts of names; keywords are none."""
    return frozenset(word.lower() for text in texts(source) for word in re.findall(r"[A-Za-z][a-z]*", text))


def texts(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = token.type == tokenize.NAME and token.string not in {"class", *FOREIGN}
        if name or token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.string


def test_words_of_a_source_are_found_in_names_comments_and_texts_alone() -> None:
    source = 'class ClassNet:\n    """Of Pixels."""\n    num_logits = 1  # an image\n    formatter_class\n'
    assert {word for word in said(source) if WORDS.fullmatch(word)} == {"class", "pixels", "logits", "image"}
