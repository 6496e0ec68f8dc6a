"""Show the catalogue: every option, its choices and the rules between them."""

import json
import sys
from collections.abc import Iterator

from mlscaffold import screen
from mlscaffold.catalogue.questions import Answer, Catalogue, Question, plain
from mlscaffold.catalogue.words import flag_name
from mlscaffold.system.terminal import fold


def options(catalogue: Catalogue, *, as_json: bool, markdown: bool) -> None:
    """Print the options as a list, as JSON, or as the table of the README."""
    if as_json:
        print(json.dumps([_as_json(catalogue, question) for question in catalogue.questions], indent=2))
    elif markdown:
        sys.stdout.write(as_markdown(catalogue))
    else:
        _print_list(catalogue)


def as_markdown(catalogue: Catalogue) -> str:
    """Write the table of the README: a line an option, its default first and in bold, then the rules."""
    lines = ["| Option | Choices | Meaning |", "|---|---|---|"]
    for question in catalogue.questions:
        cells = (f"`{flag_name(question)}`", _choices(catalogue, question), question.help)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    rules = [
        f"- `{flag_name(question)} {value}`: {reason}"
        for question in catalogue.questions
        for value, reason in _rules(catalogue, question)
    ]
    return "\n".join([*lines, *([""] if rules else []), *rules, ""])


def _as_json(catalogue: Catalogue, question: Question) -> dict[str, object]:
    return {
        "name": question.name,
        "flag": flag_name(question),
        "help": question.help,
        "type": question.type,
        "multiselect": question.multiselect,
        "default": _default(catalogue, question),
        "choices": [
            {
                "value": choice.value,
                "label": choice.label,
                "closed_because": catalogue.reasons(question, choice),
            }
            for choice in question.choices
        ],
    }


def _print_list(catalogue: Catalogue) -> None:
    from rich.text import Text

    console = screen.console()
    for question in catalogue.questions:
        default = _default(catalogue, question)
        chosen = default if isinstance(default, list) else [default]
        name = flag_name(question)
        line = fold(f"{name}  {question.help}", "    ", first="")
        console.print(Text.assemble((name, "bold cyan"), line.removeprefix(name)))
        choices = [(plain(choice.value), choice.label, choice.value in chosen) for choice in question.choices]
        width = max((len(value) for value, _, _ in choices), default=0)
        for value, label, is_default in choices or [(plain(default) or "nothing", "", True)]:
            text = f"{value:{width}}  {label}" if label else value
            line = fold(f"{text}  (default)" if is_default else text, " " * (width + 6), "    ")
            console.print(Text(line, "bold" if is_default else ""))
        for value, reason in _rules(catalogue, question):
            console.print(Text(fold(f"{value}: {reason}", "      ", "    "), "yellow"))


def _choices(catalogue: Catalogue, question: Question) -> str:
    default = _default(catalogue, question)
    chosen = default if isinstance(default, list) else [default]
    values = [choice.value for choice in question.choices] or question.values
    first = [f"**`{plain(value)}`**" for value in chosen if value != ""]
    return ", ".join([*first, *(f"`{plain(value)}`" for value in values if value not in chosen)])


def _default(catalogue: Catalogue, question: Question) -> Answer:
    return catalogue.resolve({})[question.name]


def _rules(catalogue: Catalogue, question: Question) -> Iterator[tuple[str, str]]:
    for choice in question.choices:
        yield from ((plain(choice.value), reason) for reason in catalogue.reasons(question, choice))
