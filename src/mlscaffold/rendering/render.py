"""Render a project from the templates, as Copier does, in about 2 ms after the first."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast
from unicodedata import normalize

from pathspec import PathSpec

from mlscaffold.catalogue.questions import Answer, Answers, Catalogue, read
from mlscaffold.errors import CatalogueError, short
from mlscaffold.releases.own import SOURCE, recorded_commit, template_root

ANSWERS_FILE = ".copier-answers.yml"
MOST_OUTPUT = 64 << 20  # bytes of a project


@dataclass(frozen=True)
class File:
    content: bytes
    executable: bool = False


@dataclass(frozen=True)
class TemplateFile:
    """A file of the template: where it goes, in Jinja, and what it holds."""

    path: str  # below the folder of the project's templates
    load: Callable[[dict[str, object]], bytes]
    executable: bool


def render(
    answers: Answers, root: Path | None = None, commit: str | None = None, origin: str = SOURCE
) -> dict[str, File]:
    """Render the files of a project by their posix paths; questions without an answer keep their defaults.

    `root` holds the `copier.yml` of another template or release; `commit` says which, `origin` whence. The
    rules of the catalogue are not looked at: ask `Catalogue.objections` first.
    """
    if root is None:
        root, commit = template_root(), _own_commit()
    catalogue = read(root)
    with catalogue.bounded():
        return _rendered(catalogue, answers, {"_commit": commit, "_src_path": origin})


def _rendered(catalogue: Catalogue, answers: Answers, made_from: dict[str, str | None]) -> dict[str, File]:
    complete = catalogue.complete(answers)
    stored = {question.name: complete[question.name] for question in catalogue.questions}
    context = _context(catalogue, complete, stored, made_from)
    excluded = _excluder(catalogue, {**context, "_copier_operation": "copy"})
    files = {}
    size = 0
    for file in template_files(catalogue):
        parts = [catalogue.evaluate(part, context) for part in file.path.split("/")]
        if all(parts) and not excluded(path := _inside(parts)):
            files[path] = File(file.load(context), file.executable)
            size += len(files[path].content)
            if size > MOST_OUTPUT:
                wrong = f"The template in {catalogue.root} writes more than {MOST_OUTPUT >> 20} MiB."
                raise CatalogueError(wrong)
    if not catalogue.is_own:
        from mlscaffold.system.paths import refuse_odd

        refuse_odd(files)
    return dict(sorted(files.items()))


def message(answers: Answers, path: str, *, uv: bool = False) -> str:
    """Render what our `copier.yml` tells of a new project at `path`: the next steps, by uv or pip."""
    catalogue = read(template_root())
    context = {**catalogue.complete(answers), "_copier_conf": {"dst_path": path}, "uv": uv}
    return catalogue.evaluate(str(catalogue.settings.get("message_after_copy", "")), context)


def _context(
    catalogue: Catalogue,
    complete: dict[str, Answer],
    stored: dict[str, Answer],
    made_from: dict[str, str | None],
) -> dict[str, object]:
    """What a template sees: the answers, and as much of Copier's own names as ours use."""
    known = {name: value for name, value in made_from.items() if value}
    return {
        **complete,
        "_copier_answers": {**known, **stored},
        "_copier_conf": {
            "answers_file": answers_file(catalogue),
            "sep": os.sep,
        },
        "_copier_phase": "render",
    }


def answers_file(catalogue: Catalogue) -> str:
    """The name under which a template stores answers, as it says itself."""
    return str(catalogue.settings.get("answers_file", ANSWERS_FILE))


def _excluder(catalogue: Catalogue, context: dict[str, object]) -> Callable[[str], bool]:
    patterns: list[str] = []
    for entry in cast("list[str]", catalogue.settings.get("exclude", [])):
        patterns += normalize("NFD", catalogue.evaluate(entry, context)).splitlines()
    return _matcher(tuple(patterns))


def literal_excluder(catalogue: Catalogue) -> Callable[[str], bool]:
    """What is never written, whatever is answered: nothing, where a pattern depends on answers."""
    entries = cast("list[str]", catalogue.settings.get("exclude", []))
    return _matcher(()) if any(map(catalogue.is_template, entries)) else _excluder(catalogue, {})


@cache
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    return PathSpec.from_lines("gitignore", patterns).match_file


@cache
def _own_commit() -> str | None:
    return recorded_commit()


@cache
def template_files(catalogue: Catalogue) -> list[TemplateFile]:
    """The files of a template, whose paths are templates as well."""
    suffix = str(catalogue.settings.get("templates_suffix", ".jinja"))
    top = _top(catalogue)
    found = {path.relative_to(top).as_posix(): path for path in top.rglob("*") if path.is_file()}
    return [
        _template_file(catalogue, path, relative, suffix)
        for relative, path in found.items()
        if f"{relative}{suffix}" not in found  # the template of the same name goes first
    ]


def _top(catalogue: Catalogue) -> Path:
    """The folder of the files of a project; in a template of others it lies within that, and not in git's."""
    inside = str(catalogue.settings.get("subdirectory", "."))
    top = catalogue.root / inside
    if not catalogue.is_own:
        from mlscaffold.system.paths import is_of_git

        if is_of_git(inside) or not top.resolve().is_relative_to(catalogue.root.resolve()):
            raise CatalogueError(
                f"{catalogue.root / 'copier.yml'}: _subdirectory is {short(inside)}, which lies elsewhere.",
                "Nothing was written.",
            )
    return top


def _template_file(catalogue: Catalogue, path: Path, relative: str, suffix: str) -> TemplateFile:
    executable = bool(path.stat().st_mode & 0o100)
    if not relative.endswith(suffix):
        return TemplateFile(relative, _verbatim(path), executable)
    name = path.relative_to(catalogue.root).as_posix()

    def load(context: dict[str, object]) -> bytes:
        try:
            return catalogue.environment.get_template(name).render(context).encode()
        except Exception as error:  # whatever a template calls can raise
            raise CatalogueError(f"{path} does not render: {type(error).__name__}: {error}.") from error

    return TemplateFile(relative.removesuffix(suffix), load, executable)


def _verbatim(path: Path) -> Callable[[dict[str, object]], bytes]:
    """Load a file that is no template."""
    content = path.read_bytes()
    return lambda _context: content


def _inside(parts: list[str]) -> str:
    """Join the parts of a path; refuse one that would lead out of the project."""
    if any(part in (".", "..") or "/" in part or "\\" in part for part in parts):
        raise CatalogueError(
            f"A template names the file {'/'.join(parts)!r}, which may lie outside the project."
        )
    return "/".join(parts)
