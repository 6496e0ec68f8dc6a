"""Bring the answers of a new project together: flags, then an answers file, then the name of its folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mlscaffold.catalogue.questions import NAME, Answer, Answers, Catalogue, Question, folder_name
from mlscaffold.catalogue.words import flag_name
from mlscaffold.errors import AnswerError, MlscaffoldError
from mlscaffold.system.documents import load


class Given:
    """What is answered so far, each answer with the place that it came from."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.answers: dict[str, Answer] = {}
        self._places: dict[str, str] = {}

    def add(self, answers: Answers, place: Callable[[str], str]) -> None:
        """Take answers to questions that nothing before answered; `place` names where one stands."""
        for name, answer in answers.items():
            if name not in self.answers:
                self.answers[name] = answer
                self._places[name] = place(name)

    def objection(self, question: Question, answer: Answer) -> str:
        """Why an answer to one more question cannot stand with these; nothing when it can."""
        together = {**self.answers, question.name: answer}
        found = self.catalogue.objections(together)
        return next((reason for name, reason in found.items() if name in together), "")

    def check_each(self) -> None:
        """Refuse what no later answer could mend: a value that is not offered, a bad name."""
        answers = self.catalogue.complete(self.answers)
        questions = [self.catalogue[name] for name in self.answers]
        reasons = {
            question.name: question.unknown(answers[question.name])
            if question.choices
            else self.catalogue.objection(question, answers)
            for question in questions
        }
        self._refuse(reasons)

    def check(self) -> None:
        """Refuse answers that cannot stand together; where none is to blame, a default that cannot."""
        every = self.catalogue.objections(self.answers)
        own = {name: reason for name, reason in every.items() if name in self.answers}
        self._refuse(own or dict(list(every.items())[:1]))

    def _refuse(self, reasons: Mapping[str, str]) -> None:
        lines = [f"{self._places.get(name, name)}: {reason}" for name, reason in reasons.items() if reason]
        if lines:
            raise AnswerError(lines[0], "", *lines[1:])


def gather(catalogue: Catalogue, flags: Answers, file: Path | None, target: Path | None) -> Given:
    """Collect what is answered before anything is asked, the strongest word first."""
    given = Given(catalogue)
    given.add(flags, lambda name: flag_name(catalogue[name]))
    if file is not None:
        given.add(read_answers(catalogue, file), lambda name: f"{file}: {name}")
    if target is not None and any(question.name == NAME for question in catalogue.questions):
        given.add({NAME: folder_name(target)}, lambda _: str(target))
    return given


def read_answers(catalogue: Catalogue, file: Path) -> dict[str, Answer]:
    """Read answers from a file, such as a project's `.copier-answers.yml`; keys of Copier begin with `_`."""
    answers = {}
    for key, value in read_mapping(file).items():
        name = str(key)
        if name.startswith("_"):
            continue
        try:
            answers[name] = catalogue[name].check_type(value)
        except AnswerError as error:
            raise AnswerError(f"{file}: {error}") from error
    return answers


def read_mapping(file: Path) -> dict[object, object]:
    """Read a YAML mapping, whatever the file holds; raises `MlscaffoldError`."""
    document = load(file, "A project's .copier-answers.yml would do.")
    if not isinstance(document, dict):
        raise MlscaffoldError(f"{file} holds no answers.", "Write lines such as `framework: ignite`.")
    return document
