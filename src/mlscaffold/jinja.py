"""The Jinja that renders rules, file names and files, set up as Copier does it; compiled once and kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined
from jinja2.sandbox import SandboxedEnvironment

from mlscaffold.compiled import CompiledTemplates, compiled_file
from mlscaffold.source import template_root

TEXT = "text:"  # a template of this name is the rest of the name

Found = tuple[str, str, Callable[[], bool]]


class Loader(FileSystemLoader):
    """Finds files by their path below a folder, and texts such as rules and file names by themselves."""

    def get_source(self, environment: Environment, template: str) -> Found:
        if template.startswith(TEXT):
            return template.removeprefix(TEXT), "<text>", lambda: True
        return super().get_source(environment, template)


def environment(root: Path, options: dict[str, Any]) -> SandboxedEnvironment:
    """Set up Jinja for the template in `root`; what our own compiles to is kept."""
    compiled = None
    if root == template_root():
        compiled = CompiledTemplates(compiled_file(__file__), options)
    strict = options.get("undefined") == "jinja2.StrictUndefined"
    made = SandboxedEnvironment(
        loader=Loader(root),
        bytecode_cache=compiled,
        cache_size=-1,
        auto_reload=False,
        **{**options, "undefined": StrictUndefined if strict else Undefined},
    )
    made.filters["to_nice_yaml"] = _to_nice_yaml
    return made


def _to_nice_yaml(value: object) -> str:
    """Write YAML as Copier's filter of this name does; the dumper in C folds and escapes otherwise."""
    return yaml.dump(value, indent=4, allow_unicode=True, default_flow_style=False)
