"""Ask, on a terminal, what is not answered yet."""

from collections.abc import Callable

import questionary

from mlscaffold.answers import Given
from mlscaffold.catalogue import Answer, Question
from mlscaffold.errors import StoppedError

Refuse = Callable[[str, Answer], str]  # why an answer to the question of this name is not taken, or nothing


def ask(given: Given, refuse: Refuse = lambda _name, _answer: "") -> None:
    """Ask every open question that leaves a choice; the default stands first or is filled in."""
    for question in given.catalogue.questions:
        if question.name in given.answers or len(question.values) == 1:
            continue
        try:
            answer = _prompt(given, question, refuse).unsafe_ask()
        except (KeyboardInterrupt, EOFError) as error:
            raise StoppedError("Stopped at a question. Nothing was written.") from error
        given.add({question.name: question.check_type(answer)}, lambda name: name)


def _prompt(given: Given, question: Question, refuse: Refuse) -> questionary.Question:
    default = given.catalogue.complete(given.answers)[question.name]

    def judge(answer: Answer) -> str | bool:
        return given.objection(question, answer) or refuse(question.name, answer) or True

    if not question.choices:
        if question.type == "bool":
            return questionary.confirm(question.help, default=bool(default))
        return questionary.text(question.help, default=str(default), validate=judge)
    choices = [
        questionary.Choice(
            choice.label,
            value=choice.value,
            disabled=given.objection(question, [str(choice.value)] if question.multiselect else choice.value),
            checked=isinstance(default, list) and choice.value in default,
        )
        for choice in question.choices
    ]
    if question.multiselect:
        return questionary.checkbox(question.help, choices=choices, validate=judge)
    begin = next((choice for choice in choices if choice.value == default and not choice.disabled), None)
    return questionary.select(question.help, choices=choices, default=begin)
