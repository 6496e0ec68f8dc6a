"""One command-line flag per question of the catalogue, and the short forms that it names."""

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, cast

import typer

from mlscaffold.catalogue.questions import Answer, Catalogue, Question, plain
from mlscaffold.catalogue.words import flag_name
from mlscaffold.errors import UsageError

Command = Callable[..., None]
LONGEST = 72  # of a flag and its values, side by side; others stand in its help


def with_flags(catalogue: Catalogue) -> Callable[[Command], Command]:
    """Let a command take every question as a flag; it receives the answers that were given, as `flags`."""
    parameters = list(_parameters(catalogue))

    def decorate(command: Command) -> Command:
        own = [p for p in signature(command, eval_str=True).parameters.values() if p.name != "flags"]

        @wraps(command)
        def wrapped(**values: object) -> None:
            given = {parameter.name: values.pop(parameter.name) for parameter in parameters}
            command(**values, flags=_read(catalogue, given))

        every = [*parameters, *(parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own)]
        wrapped.__signature__ = Signature(every)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        return wrapped

    return decorate


def _parameters(catalogue: Catalogue) -> Iterator[Parameter]:
    for question in catalogue.questions:
        annotation = Annotated[_type(question) | None, _option(question)]  # type: ignore[valid-type]
        yield Parameter(question.name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for value in _shorts(catalogue, question):
            option = typer.Option(f"--{value}", help=f"Short for {flag_name(question)} {value}.")
            annotation = Annotated[bool, option]
            name = f"{question.name}_{value}"
            yield Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _shorts(catalogue: Catalogue, question: Question) -> list[str]:
    """The choices that are flags too, all but the default: `--ddp` for `--strategy ddp`."""
    named = cast("list[str]", catalogue.settings.get("short_flags", []))
    values = [str(value) for value in question.values if value != question.default]
    return values if question.name in named else []


def _type(question: Question) -> type:
    if question.multiselect:
        return list[str]
    return bool if question.type == "bool" else str


def _option(question: Question) -> object:
    name, values, told = flag_name(question), _metavar(question), question.help
    if len(name) + len(values) > LONGEST:
        values, told = question.name.upper(), f"{told}: {values.replace('|', ', ')}"
    return typer.Option(
        f"{name}/{name.replace('--', '--no-', 1)}" if question.type == "bool" else name,
        help=f"{told}; repeat it or use commas" if question.multiselect else told,
        metavar=None if question.type == "bool" else values,
        autocompletion=_completer(question) if question.choices else None,
        show_default=False,
    )


def _metavar(question: Question) -> str:
    values = [plain(choice.value) for choice in question.choices]
    return "|".join(dict.fromkeys([*values, "none"]) if question.multiselect else values) or "TEXT"


def _completer(question: Question) -> Callable[[str], list[tuple[str, str]]]:
    """Complete a value in the shell, of a list the last one."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        before, comma, _ = incomplete.rpartition(",") if question.multiselect else ("", "", "")
        offered = ((f"{before}{comma}{choice.value}", choice.label) for choice in question.choices)
        return [(value, label) for value, label in offered if value.startswith(incomplete)]

    return complete


def _read(catalogue: Catalogue, given: dict[str, object]) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    for question in catalogue.questions:
        value = given[question.name]
        if isinstance(value, list):
            value = ",".join(value) if value else None
        if value is not None:
            answers[question.name] = question.parse(value) if isinstance(value, str) else value is True
        for short in _shorts(catalogue, question):
            if not given[f"{question.name}_{short}"]:
                continue
            if answers.setdefault(question.name, short) != short:
                other = f"{flag_name(question)} {plain(answers[question.name])}"
                raise UsageError(f"--{short} and {other} exclude each other.", "Give one of them.")
    return answers
