"""Bring the answers of a new project together: flags, then an answers file, then the name of its folder."""

import os
from collections.abc import Callable
from pathlib import Path

import yaml

from mlscaffold.catalogue import Answer, Answers, Catalogue
from mlscaffold.errors import AnswerError, MlscaffoldError
from mlscaffold.flags import flag_name

NAME = "project"  # the question that the name of the target folder answers


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

    def check(self) -> None:
        """Refuse answers that cannot stand, with all their reasons, a line each."""
        objections = self.catalogue.objections(self.answers)
        blamed = [name for name in objections if name in self._places] or list(objections)[:1]
        if blamed:
            reasons = (f"{self._places.get(name, name)}: {objections[name]}" for name in blamed)
            raise AnswerError("\n".join(reasons))


def gather(catalogue: Catalogue, flags: Answers, file: Path | None, target: Path | None) -> Given:
    """Collect what is answered before anything is asked, the strongest word first."""
    given = Given(catalogue)
    given.add(flags, lambda name: flag_name(catalogue[name]))
    if file is not None:
        given.add(read_answers(catalogue, file), lambda name: f"{file}: {name}")
    if target is not None and any(question.name == NAME for question in catalogue.questions):
        given.add({NAME: folder_name(target)}, lambda _: str(target))
    return given


def folder_name(target: Path) -> str:
    """Name the folder that `.` or `../here` stands for."""
    return Path(os.path.abspath(target)).name  # noqa: PTH100 (resolve would follow links)


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
    try:
        document = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise MlscaffoldError(f"{file} cannot be read: {error.strerror}.") from error
    except (
        Exception
    ) as error:  # PyYAML answers some documents with KeyError, AttributeError or RecursionError
        wrong = " ".join(str(error).split())[:200]
        raise MlscaffoldError(
            f"{file} is not YAML: {wrong}.", "A project's .copier-answers.yml would do."
        ) from error
    if not isinstance(document, dict):
        raise MlscaffoldError(f"{file} holds no answers.", "Write lines such as `framework: ignite`.")
    return document
