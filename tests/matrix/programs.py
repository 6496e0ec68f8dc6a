"""What a command of a generated project is made of, and running each such program once, whoever has it."""

import ast
import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from tests.matrix.inside import PACKAGE
from tests.matrix.pool import PART
from tests.support.projects import Files, Rendered

Result = TypeVar("Result")
ROOT = f"src/{PACKAGE}"


def closure(project: Rendered, module: str) -> Files:
    """The files of the package that importing a module of it brings in, at once or later."""
    found: Files = {}
    todo = ["", module]
    while todo:
        name = todo.pop()
        path = path_of(project, name)
        if path and path not in found:
            found[path] = project.files[path]
            todo += imports(found[path], name if path.endswith("/__init__.py") else name.rpartition(".")[0])
    return found


def path_of(project: Rendered, module: str) -> str:
    """The file of a module that is named from the package on, or nothing if there is none."""
    base = f"{ROOT}/{module.replace('.', '/')}".rstrip("/")
    return next((path for path in (f"{base}.py", f"{base}/__init__.py") if path in project.files), "")


@cache
def imports(source: str, package: str) -> tuple[str, ...]:
    """The modules of its own package that a source names, wherever it does."""
    return tuple(
        name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level
        for name in _modules(node, package)
    )


def _modules(node: ast.ImportFrom, package: str) -> Iterator[str]:
    parts = package.split(".") if package else []
    base = [*parts[: len(parts) - node.level + 1], *(node.module or "").split(".")]
    yield ".".join(filter(None, base))
    for alias in node.names:
        yield ".".join(filter(None, [*base, alias.name]))


def key_of(files: Files, *settings: object) -> str:
    """Tells programs apart: what is imported, and what it is run with."""
    content = repr((sorted(files.items()), settings))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass
class Programs:
    """Runs each distinct program of a stage once, and keeps what it led to."""

    results: dict[tuple[str, str], "asyncio.Task[Any]"] = field(default_factory=dict)
    distinct: Counter[str] = field(default_factory=Counter)

    async def once(self, stage: str, key: str, run: Callable[[], Awaitable[Result]]) -> Result:
        """Run a program unless it has run; what it returned or raised holds for everyone who has it."""
        if (stage, key) not in self.results:
            self.distinct[stage] += 1
            self.results[stage, key] = asyncio.ensure_future(self._as_part(stage, run))
        result: Result = await self.results[stage, key]
        return result

    async def _as_part(self, stage: str, run: Callable[[], Awaitable[Any]]) -> Any:
        PART.set(stage)  # in the context of this task
        return await run()
