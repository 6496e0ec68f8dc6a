"""Which packages a project asks for: its name, its Python, and its dependencies."""

import tomllib

INSTALL = "`uv sync --extra dev`, or `pip install -e '.[dev]'`"


def requirements(text: str) -> list[str] | None:
    """Read a `pyproject.toml`, whatever its owner wrote; `None` for one that cannot be read."""
    try:
        return _read(tomllib.loads(text).get("project", {}))
    except (ValueError, RecursionError):  # also of numbers with more digits than Python reads or writes
        return None


def _read(project: object) -> list[str] | None:
    if not isinstance(project, dict):
        return None
    found = [f"{key} {project[key]}" for key in ("name", "requires-python") if key in project]
    extras = project.get("optional-dependencies")
    for extra, packages in {
        "": project.get("dependencies"),
        **(extras if isinstance(extras, dict) else {}),
    }.items():
        note = f" ({extra})" if extra else ""
        found += [f"{package}{note}" for package in (packages if isinstance(packages, list) else [])]
    return found
