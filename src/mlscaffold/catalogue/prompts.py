"""Ask, on a terminal, what is not answered yet; look all answers over, and change any of them."""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import cast

import questionary
from prompt_toolkit import print_formatted_text
from prompt_toolkit.application import get_app_session
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from questionary.constants import DEFAULT_STYLE

from mlscaffold.catalogue.answers import Given
from mlscaffold.catalogue.questions import Answer, Choice, Question, plain
from mlscaffold.errors import StoppedError
from mlscaffold.system.terminal import fold

Refuse = Callable[[str, Answer], str]  # why an answer to the question of this name is not taken, or nothing

KEYS = "Enter accepts, Esc goes back, Ctrl-C quits without writing."
ESCAPE_S = 0.05  # an arrow key begins with Esc too; so long a terminal may take to send the rest
MAKE = ""  # what the review gives when nothing is to be changed; the name of no question
ROOM = 24  # columns that are left for what is typed


class BackError(Exception):
    """The user wants to see the question before."""


class Interview:
    """Questions and answers so far. A default that is taken is no answer: it follows what it derives from."""

    def __init__(self, given: Given, refuse: Refuse, fixed: Collection[str] = ()) -> None:
        self.given = given
        self.refuse = refuse
        self.fixed = fixed  # questions whose answers are not to be changed
        self.asked: list[Question] = []
        self.rows: list[int] = []  # of the screen, that each of these takes
        self.kept: dict[str, Answer] = {}  # answers that were taken back, which Enter gives again

    @property
    def open(self) -> Iterator[Question]:
        """The questions that are still to be asked; those that are seldom changed wait for the review."""
        seldom = cast("list[str]", self.given.catalogue.settings.get("asked_in_review", []))
        for question in self.given.catalogue.questions:
            if question.name in self.given.answers or question in self.asked:
                continue
            if not self.leaves_choice(question):
                continue
            if question.name not in seldom or self.given.objection(question, self.current(question)):
                yield question

    def leaves_choice(self, question: Question) -> bool:
        """Whether earlier answers close less than all choices but one."""
        if question.multiselect or not question.choices:
            return len(question.values) != 1
        catalogue = self.given.catalogue
        answers = catalogue.complete(self.given.answers)
        return sum(not catalogue.closed(choice, answers) for choice in question.choices) != 1

    def ask_all(self) -> None:
        """Ask until nothing is open; Esc goes back to the question before, which keeps its answer."""
        while question := next(self.open, None):
            try:
                self.ask(question, back=bool(self.asked))
            except BackError:
                self.take_back()
            else:
                self.asked.append(question)
                self.rows.append(self.tell(question))
        self.kept.clear()

    def review(self, title: str) -> None:
        """Show every answer, and ask those again that are chosen, until the project is to be made."""
        while True:
            _erase(sum(self.rows))  # what was asked stands in the review, too
            try:
                name = _answer(self._review_prompt(title), back=bool(self.asked))
            except BackError:
                self.tell_all()
                self.take_back()
                self.ask_all()
                continue
            if name != MAKE:
                with suppress(BackError):
                    self.ask(self.given.catalogue[str(name)], back=True)
            self.tell_all()
            if name == MAKE:
                return
            self.ask_all()  # such as a package whose name followed that of the project and cannot stand

    def ask(self, question: Question, *, back: bool) -> None:
        """Ask one question; the answer that it has already is the one that Enter takes."""
        before = self.kept.get(question.name, self.current(question))
        answer = (
            self._choose(question, before, back) if question.values else self._type(question, before, back)
        )
        self.kept.pop(question.name, None)
        self.given.answers.pop(question.name, None)
        if answer != before:
            for follower in self.given.catalogue.given_for(question.name):
                self.given.answers.pop(follower, None)
        if answer != self.current(question):
            self.given.add({question.name: answer}, lambda name: name)

    def take_back(self) -> None:
        """Make the question that was asked last an open one, and clear its line."""
        question = self.asked.pop()
        _erase(self.rows.pop())
        if question.name in self.given.answers:
            self.kept[question.name] = self.given.answers.pop(question.name)

    def current(self, question: Question) -> Answer:
        return self.given.catalogue.complete(self.given.answers)[question.name]

    def tell_all(self) -> None:
        self.rows = [self.tell(question) for question in self.asked]

    def tell(self, question: Question) -> int:
        """Print a question with its answer; returns how many rows of the screen that takes."""
        asked, answer = _fold(question.help, 2), _fold(spoken(question, self.current(question)), 2)
        space = " " if len(asked.splitlines()[-1]) + len(answer) + 4 < _columns() else "\n  "
        parts = [("class:qmark", "?"), ("class:question", f" {asked}{space}"), ("class:answer", answer)]
        print_formatted_text(FormattedText(parts), style=DEFAULT_STYLE)
        return (asked + space + answer).count("\n") + 1

    def _review_prompt(self, title: str) -> questionary.Question:
        answers = self.given.catalogue.resolve(self.given.answers)
        questions = [q for q in self.given.catalogue.questions if self.leaves_choice(q)]
        rows = {q.name: text for q in questions if (text := spoken(q, answers[q.name]))}
        titles = {q.name: q.title or q.name for q in questions}
        width = max(len(titles[name]) for name in rows)
        choices = [questionary.Choice("Make it", value=MAKE), questionary.Separator(" ")]
        for name, text in rows.items():
            fixed = "set by the kit" if name in self.fixed else ""
            row, most = f"{titles[name]:{width}}  {text}", _columns() - (24 if fixed else 4)
            shown = row if len(row) <= most else f"{row[: most - 3]}..."
            choices.append(questionary.Choice(shown, name, disabled=fixed or None))
        text, hint = _head(title, "(or go to a line to change it)")
        return questionary.select(text, choices=choices, instruction=hint)

    def _choose(self, question: Question, before: Answer, back: bool) -> Answer:
        """Let one of the choices be taken, or several be marked."""
        choices = [self._choice(question, choice, before) for choice in question.choices]
        if not choices:
            return bool(_answer(questionary.confirm(question.help, default=bool(before)), back=back))
        if question.multiselect:
            text, hint = _head(question.help, "(Space selects, Enter accepts)")
            prompt = questionary.checkbox(
                text,
                choices=choices,
                instruction=hint,
                validate=lambda marked: self._judge(question, marked) or True,
            )
        else:
            text, hint = _head(question.help, "(Use arrow keys)")
            begin = next(
                (choice for choice in choices if choice.value == before and not choice.disabled), None
            )
            prompt = questionary.select(text, choices=choices, instruction=hint, default=begin)
        return question.check_type(_answer(prompt, back=back))

    def _choice(self, question: Question, choice: Choice, before: Answer) -> questionary.Choice:
        if not (reason := self._closed(question, choice)):
            checked = isinstance(before, list) and choice.value in before
            beside = 5 if question.multiselect else 3  # columns: a pointer, and a mark
            return questionary.Choice(_fold(choice.label, beside), value=choice.value, checked=checked)
        title, reason = _fold(choice.label, 5), _fold(reason, 5)
        if len(title) + len(reason) + 8 >= _columns():
            title += "\n    "
        return questionary.Choice(title, value=choice.value, disabled=reason)

    def _closed(self, question: Question, choice: Choice) -> str:
        """Why a choice cannot be taken beside what is answered; nothing when it can."""
        return self.given.objection(question, [str(choice.value)] if question.multiselect else choice.value)

    def _type(self, question: Question, before: Answer, back: bool) -> str:
        """Let a line be typed until it can be taken; an empty one stands for the answer before."""
        # The answer before is shown beside the line and not on it, where it would have to be deleted first.
        hint = f"({before})" if before else ""
        beside = len(question.help) + len(hint) + ROOM < _columns()
        typed = wrong = ""
        while True:
            below = "".join(f"\n  {_fold(text, 2)}" for text in ("" if beside else hint, wrong) if text)
            instruction = (hint if beside else "") + (f"{below}\n " if below else "")
            prompt = questionary.text(_fold(question.help, 2), typed, instruction=instruction or None)
            typed = str(_answer(prompt, back=back))
            if not (wrong := self._judge(question, typed or before)):
                return typed or str(before)

    def _judge(self, question: Question, answer: Answer) -> str:
        """Why an answer is not taken; nothing when it is."""
        return self.given.objection(question, answer) or self.refuse(question.name, answer)


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
    print(_fold(KEYS))
    try:
        interview.ask_all()
        if review:
            interview.review(review)
    except (KeyboardInterrupt, EOFError) as error:
        raise StoppedError("Stopped at a question. Nothing was written.") from error


def spoken(question: Question, answer: Answer) -> str:
    """Write an answer as its question does: the labels of what was chosen, without what explains them."""
    chosen = answer if isinstance(answer, list) else [answer]
    labels = [choice.label.partition(" (")[0] for choice in question.choices if choice.value in chosen]
    return ", ".join(labels) or ("None" if question.multiselect else " ".join(plain(answer).split()))


def _answer(prompt: questionary.Question, *, back: bool) -> object:
    """Show a prompt until it is answered, and clear it; Esc raises `BackError` if there is a way back."""
    bindings = KeyBindings()

    @bindings.add("escape", eager=True)
    def go_back(event: KeyPressEvent) -> None:
        if back:
            event.app.exit(exception=BackError)

    @bindings.add("<sigint>")  # that someone sent, such as `kill`; of the key a prompt knows itself
    def stop(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt)

    application = prompt.application
    application.key_bindings = merge_key_bindings([*filter(None, [application.key_bindings]), bindings])
    application.ttimeoutlen = ESCAPE_S
    application.erase_when_done = True
    return prompt.unsafe_ask()


def _head(text: str, hint: str) -> tuple[str, str]:
    """The text of a prompt, and its hint where that fits beside it."""
    return _fold(text, 2), hint if len(text) + len(hint) + 4 < _columns() else " "


def _columns() -> int:
    return get_app_session().output.get_size().columns


def _fold(text: str, indent: int = 0) -> str:
    """Break a text between words to lines of the screen, the first of which begins after `indent` columns."""
    return fold(text, " " * indent, width=_columns() - 1).lstrip()


def _erase(rows: int) -> None:
    """Clear the last rows above the cursor."""
    output = get_app_session().output
    output.cursor_up(rows)
    output.erase_down()
    output.flush()
