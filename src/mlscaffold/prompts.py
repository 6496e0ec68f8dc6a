"""Ask, on a terminal, what is not answered yet; look all answers over, and change any of them."""

from collections.abc import Callable, Collection, Iterator
from typing import cast

import questionary
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings

from mlscaffold.answers import Given
from mlscaffold.catalogue import Answer, Question, plain
from mlscaffold.errors import StoppedError

Refuse = Callable[[str, Answer], str]  # why an answer to the question of this name is not taken, or nothing

KEYS = "Enter takes what is shown, Esc goes back, Ctrl-C stops and writes nothing."
ESCAPE_S = 0.05  # an arrow key begins with Esc too; so long a terminal may take to send the rest
MAKE = ""  # what the review gives when nothing is to be changed; the name of no question


class BackError(Exception):
    """The user wants to see the question before."""


class Interview:
    """Questions and answers so far. A default that is taken is no answer: it follows what it derives from."""

    def __init__(self, given: Given, refuse: Refuse, fixed: Collection[str] = ()) -> None:
        self.given = given
        self.refuse = refuse
        self.fixed = fixed  # questions whose answers are not to be changed
        self.asked: list[Question] = []

    @property
    def open(self) -> Iterator[Question]:
        """The questions that are still to be asked; those that are seldom changed wait for the review."""
        seldom = cast("list[str]", self.given.catalogue.settings.get("asked_in_review", []))
        for question in self.given.catalogue.questions:
            if question.name in self.given.answers or question in self.asked or len(question.values) == 1:
                continue
            if question.name not in seldom or self.given.objection(question, self.current(question)):
                yield question

    def ask_all(self) -> None:
        """Ask until nothing is open; Esc takes the last answer back."""
        while question := next(self.open, None):
            try:
                self.ask(question)
            except BackError:
                self.take_back()

    def review(self, title: str) -> None:
        """Show every answer, and ask those again that are chosen, until the project is to be made."""
        while True:
            try:
                name = _answer(self._review_prompt(title))
                if name == MAKE:
                    return
                self.ask(self.given.catalogue[str(name)])
            except BackError:
                self.take_back()
                self.ask_all()

    def ask(self, question: Question) -> None:
        """Ask one question; the answer that it has already is the one that Enter takes."""
        typed = _answer(self._prompt(question))
        before = self.current(question)
        answer = before if typed == "" else question.check_type(typed)
        self.given.answers.pop(question.name, None)
        if answer != before:
            for follower in self.given.catalogue.given_for(question.name):
                self.given.answers.pop(follower, None)
        if answer != self.current(question):
            self.given.add({question.name: answer}, lambda name: name)
        if question not in self.asked:
            self.asked.append(question)

    def take_back(self) -> None:
        if self.asked:
            self.given.answers.pop(self.asked.pop().name, None)

    def current(self, question: Question) -> Answer:
        return self.given.catalogue.complete(self.given.answers)[question.name]

    def _review_prompt(self, title: str) -> questionary.Question:
        catalogue = self.given.catalogue
        answers = catalogue.resolve(self.given.answers)
        rows = [question for question in catalogue.questions if len(question.values) != 1]
        width = max(len(question.name) for question in rows)
        choices = [questionary.Choice("Make it", value=MAKE), questionary.Separator(" ")]
        choices += [
            questionary.Choice(
                f"{question.name:{width}}  {plain(answers[question.name])}",
                value=question.name,
                disabled="set by the kit" if question.name in self.fixed else None,
            )
            for question in rows
        ]
        return questionary.select(title, choices=choices, instruction="(or go to a line to change it)")

    def _prompt(self, question: Question) -> questionary.Question:
        default = self.current(question)

        def judge(answer: Answer) -> str | bool:
            return self.given.objection(question, answer) or self.refuse(question.name, answer) or True

        if not question.choices:
            if question.type == "bool":
                return questionary.confirm(question.help, default=bool(default))
            # The default is shown beside the line and not on it, where it would have to be deleted first.
            return questionary.text(
                question.help,
                instruction=f"({default}) " if default else None,
                validate=lambda text: judge(text or str(default)),
            )
        choices = [
            questionary.Choice(
                choice.label,
                value=choice.value,
                disabled=self.given.objection(
                    question, [str(choice.value)] if question.multiselect else choice.value
                ),
                checked=isinstance(default, list) and choice.value in default,
            )
            for choice in question.choices
        ]
        if question.multiselect:
            return questionary.checkbox(question.help, choices=choices, validate=judge)
        begin = next((choice for choice in choices if choice.value == default and not choice.disabled), None)
        return questionary.select(question.help, choices=choices, default=begin)


def ask(
    given: Given,
    refuse: Refuse = lambda _name, _answer: "",
    *,
    review: str = "",
    fixed: Collection[str] = (),
) -> None:
    """Ask every open question that leaves a choice; then, if anything was asked, review all under a title."""
    interview = Interview(given, refuse, fixed)
    if not any(interview.open):
        return
    print(KEYS)
    try:
        interview.ask_all()
        if review:
            interview.review(review)
    except (KeyboardInterrupt, EOFError) as error:
        raise StoppedError("Stopped at a question. Nothing was written.") from error


def _answer(prompt: questionary.Question) -> object:
    """Show a prompt until it is answered; Esc raises `BackError`."""
    bindings = KeyBindings()

    @bindings.add("escape", eager=True)
    def go_back(event: KeyPressEvent) -> None:
        event.app.exit(exception=BackError)

    application = prompt.application
    application.key_bindings = merge_key_bindings([*filter(None, [application.key_bindings]), bindings])
    application.ttimeoutlen = ESCAPE_S
    return prompt.unsafe_ask()
