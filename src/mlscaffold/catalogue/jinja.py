"""The Jinja that renders rules, file names and files, set up as Copier does it; compiled once and kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound, Undefined
from jinja2.filters import do_round
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from mlscaffold.catalogue.compiled import CompiledTemplates, compiled_file
from mlscaffold.releases.own import is_own, template_root
from mlscaffold.system.documents import MOST_BYTES

TEXT = "text:"  # a template of this name is the rest of the name
MOST_BITS = 10_000  # of a number that a stranger's template computes
MOST_PLACES = 100  # that it rounds to

Found = tuple[str, str, Callable[[], bool]]


class Loader(FileSystemLoader):
    """Finds files by their path below a folder, and texts such as rules and file names by themselves."""

    def get_source(self, environment: Environment, template: str) -> Found:
        if template.startswith(TEXT):
            return template.removeprefix(TEXT), "<text>", lambda: True
        return super().get_source(environment, template)


class StrangersLoader(Loader):
    """Finds files of a template that may come from anyone: none of git's, none behind a link."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root.resolve()

    def get_source(self, environment: Environment, template: str) -> Found:
        from mlscaffold.system.paths import is_of_git

        if not template.startswith(TEXT):
            place = self.root / template
            if is_of_git(template) or place.resolve() != place or not place.is_file():
                raise TemplateNotFound(template)
            if place.stat().st_size > MOST_BYTES:
                raise TemplateError(f"{template} is larger than {MOST_BYTES >> 20} MiB")
        return super().get_source(environment, template)


class StrangersEnvironment(SandboxedEnvironment):
    """A sandbox without the operations that neither a signal nor a bound on memory ends."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        if isinstance(left, int) and isinstance(right, int):
            sizes = left.bit_length(), abs(right) if operator == "**" else right.bit_length()
            if (sizes[0] * sizes[1] if operator == "**" else sum(sizes)) > MOST_BITS:
                raise OverflowError(f"{operator} gives a number of more than {MOST_BITS} bits")
        return super().call_binop(context, operator, left, right)


def environment(root: Path, options: dict[str, Any]) -> SandboxedEnvironment:
    """Set up Jinja for the template in `root`; what our own compiles to is kept."""
    compiled = None
    if root == template_root():
        compiled = CompiledTemplates(compiled_file(__file__), options)
    strict = options.get("undefined") == "jinja2.StrictUndefined"
    own = is_own(root)
    made = (SandboxedEnvironment if own else StrangersEnvironment)(
        loader=(Loader if own else StrangersLoader)(root),
        bytecode_cache=compiled,
        cache_size=-1,
        auto_reload=False,
        **{**options, "undefined": StrictUndefined if strict else Undefined},
    )
    made.filters["to_nice_yaml"] = _to_nice_yaml
    if not own:
        made.filters["round"] = _round
        made.filters["random"] = _random
        del made.globals["lipsum"]  # random as well
    return made


def _to_nice_yaml(value: object) -> str:
    """Write YAML as Copier's filter of this name does; the dumper in C folds and escapes otherwise."""
    return yaml.dump(value, indent=4, allow_unicode=True, default_flow_style=False)


def _random(_value: object) -> object:
    """Refuse chance: an update renders again what a project was made of, and bounds look at it first."""
    raise ValueError("`random` gives other files each time")


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    """Round as Jinja's filter does, which computes 10 to the power of `precision`."""
    if abs(precision) > MOST_PLACES:
        raise OverflowError(f"round to {precision} places")
    return do_round(value, precision, method)
