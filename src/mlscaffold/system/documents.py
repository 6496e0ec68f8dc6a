"""Read YAML that may come from anyone, as large and as deep as people write it; its aliases count too."""

from pathlib import Path
from typing import Any

import yaml

from mlscaffold.errors import MlscaffoldError
from mlscaffold.screen import in_a_line

MOST_BYTES = 1 << 20  # of a file
MOST_TEXT = 4 << 20  # characters and values, each alias counted as what it stands for
DEEPEST = 50  # the parser in C overflows its stack before it refuses

# The parser in C is ten times as fast; an installation may lack it.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_bytes(path: Path) -> bytes:
    """Read a file that has no reason to be large, be it a device that never ends."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise MlscaffoldError(f"{path} is larger than {MOST_BYTES >> 20} MiB.")
    return content


def load(path: Path, remedy: str = "", *, measured: bool = True) -> object:
    """Read the YAML document in a file; raises `MlscaffoldError` whatever the file holds."""
    try:
        content = read_bytes(path)
    except OSError as error:
        raise MlscaffoldError(f"{path} cannot be read: {error.strerror}.") from error
    return parse(content, path, remedy, measured=measured)


def parse(content: bytes, name: object, remedy: str = "", *, measured: bool = True) -> object:
    """Read a YAML document; one that is not measured, which takes a tenth of the time, can exhaust memory."""
    try:
        if not measured:
            return yaml.load(content, Loader)
        from mlscaffold.system.bounds import bounded

        with bounded(Path(str(name))):  # numbers and keys of a mapping can take minutes
            _measure(content)
            return yaml.load(content, Loader)
    except MlscaffoldError:
        raise
    except Exception as error:  # PyYAML also raises KeyError, AttributeError and RecursionError
        wrong = f"{name} is not YAML: {in_a_line(str(error))[:200]}."
        raise MlscaffoldError(wrong, remedy) from error


def _measure(content: bytes) -> None:
    """Refuse a document that is deep, or that grows when its aliases are written out."""
    sizes: dict[str, int] = {}  # of what anchors stand for
    open_: list[tuple[str | None, int]] = []  # the collections around, and what was counted before each
    total = 0
    for event in yaml.parse(content, Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands within what it repeats")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size = 1 + len(event.value)
            total += size
            if event.anchor:
                sizes[event.anchor] = size
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = total - before
        if total > MOST_TEXT:
            raise ValueError("its aliases repeat too much")
        if len(open_) > DEEPEST:
            raise ValueError(f"it is more than {DEEPEST} levels deep")
