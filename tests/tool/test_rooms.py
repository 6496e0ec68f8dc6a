"""The rooms of the tool: imports go one way, those within functions too."""

from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests.support.proofs import imports_of
from tests.support.releases import ROOT

PACKAGE = ROOT / "src/mlscaffold"

# Each room imports from those above it, and from itself.
ORDER = (
    {"screen"},
    {"errors"},
    {"system"},
    {"releases"},
    {"catalogue"},
    {"rendering"},
    {"kits"},
    {"new", "update"},
    {"web"},
    {"doctor"},
    {"cli"},
    {"__main__"},
)
LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the tool, but for the package itself, which all may ask for its version."""
    for path in sorted(PACKAGE.rglob("*.py")):
        inner = path.relative_to(PACKAGE).with_suffix("")
        if name := ".".join(inner.parent.parts if inner.name == "__init__" else inner.parts):
            yield name, path


def imported(path: Path) -> set[str]:
    """The modules of the tool that one of them imports."""
    known = dict(modules())
    found = {name.removeprefix("mlscaffold.") for name in imports_of(path)}
    found &= known.keys()
    return {name for name in found if not any(more.startswith(f"{name}.") for more in found)}


def test_each_module_of_the_tool_has_its_room() -> None:
    rooms = {name.partition(".")[0] for name, _ in modules()}
    assert rooms == LEVELS.keys(), "say in ORDER where it belongs"


def test_rooms_of_the_tool_import_one_way() -> None:
    for name, path in modules():
        own = name.partition(".")[0]
        for other in imported(path):
            room = other.partition(".")[0]
            assert room == own or LEVELS[room] < LEVELS[own], f"{name} imports {other}"


def test_no_module_of_the_tool_imports_itself_through_others() -> None:
    TopologicalSorter({name: imported(path) for name, path in modules()}).prepare()  # names a circle
