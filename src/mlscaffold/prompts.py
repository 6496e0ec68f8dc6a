"""Ask, on a terminal, what is not answered yet."""

from collections.abc import Callable

import questionary

from mlscaffold.answers import Given
from mlscaffold.catalogue import Answer, Catalogue, Question
from mlscaffold.errors import StoppedError

Refuse = Callable[[str, Answer], str]  # why an answer to the question of this name is not taken, or nothing


def ask(given: Given, refuse: Refuse = lambda _name, _answer: "") -> None:
    """Ask every open question that leaves a choice; the default stands first or is filled in."""
    catalogue = given.catalogue
    for question in catalogue.questions:
        if question.name in given.answers or len(question.values) == 1:
            continue
        answers = catalogue.complete(given.answers)
        try:
            answer = _prompt(catalogue, question, answers, refuse).unsafe_ask()
        except (KeyboardInterrupt, EOFError) as error:
            raise StoppedError("Stopped at a question. Nothing was written.") from error
        given.add({question.name: question.check_type(answer)}, lambda name: name)


def _prompt(
    catalogue: Catalogue, question: Question, answers: dict[str, Answer], refuse: Refuse
) -> questionary.Question:
    def judge(value: str | list[str]) -> str | bool:
        tried = {**answers, question.name: question.check_type(value)}
        return catalogue.objection(question, tried) or refuse(question.name, value) or True

    default = answers[question.name]
    if not question.choices:
        if question.type == "bool":
            return questionary.confirm(question.help, default=bool(default))
        return questionary.text(question.help, default=str(default), validate=judge)
    choices = [
        questionary.Choice(
            choice.label,
            value=choice.value,
            disabled=catalogue.closed(choice, answers) or None,
            checked=isinstance(default, list) and choice.value in default,
        )
        for choice in question.choices
    ]
    if question.multiselect:
        return questionary.checkbox(question.help, choices=choices, validate=judge)
    return questionary.select(question.help, choices=choices, default=_open_default(choices, default))


def _open_default(choices: list[questionary.Choice], default: Answer) -> questionary.Choice | None:
    """The choice to begin at; one that earlier answers close would be refused."""
    return next((choice for choice in choices if choice.value == default and not choice.disabled), None)
