"""What the page of a new project shows: the catalogue, a project as it would be made, its command, a zip.

Answers come and go as they are typed on a command line, and are judged as there. Nothing is written, and
there is no server in here: a browser that has Python can run it as well.
"""

import io
import re
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl, urlencode

from mlscaffold import __version__
from mlscaffold.catalogue.questions import NAME, Answer, Answers, Catalogue, Choice, Question, plain, read
from mlscaffold.catalogue.words import recreate
from mlscaffold.errors import AnswerError, short
from mlscaffold.releases.own import template_root
from mlscaffold.rendering.render import File, render

Given = Mapping[str, object]  # answers by question, each as it is typed: `yes`, `ddp`, `mlflow,wandb`, `none`
Object = dict[str, object]  # can be written as JSON

VERSION = "mlscaffold"  # what a link calls the version that made it; the name of no question
MOST_LINK = 8_000  # characters
MOST_PAIRS = 100
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date of an archive: equal projects make equal archives
DEPENDENCY = re.compile(r'^ *"([^"]+)",? *# *(.+)$', re.MULTILINE)  # one whose line says why


def catalogue() -> Object:
    """Say what is asked, in the words of `copier.yml`: questions, the picture of a project, presets."""
    ours = read(template_root())
    presets = cast("dict[str, Answers]", ours.settings["presets"])
    return {
        "version": __version__,
        "questions": [_question(ours, question) for question in ours.questions],
        "seldom": ours.settings["asked_in_review"],
        "stages": ours.settings["stages"],
        "around": ours.settings["around"],
        "presets": {title: _typed(answers) for title, answers in presets.items()},
    }


def preview(given: Given) -> Object:
    """Show the project for some answers.

    `answers` has one for each question, `given` those that are no defaults, `closed` the choices that earlier
    answers rule out, each with the reason. `errors` says why an answer cannot stand; where it is empty, there
    are `files` by path, the `command` and the `link` that make them, and the packages that the project needs.
    """
    ours = read(template_root())
    answers, errors = _judge(ours, given)
    complete = ours.complete(answers)
    asked = {question.name: complete[question.name] for question in ours.questions}
    shown: Object = {"answers": _typed(asked), "closed": _closed(ours, complete), "errors": errors}
    if errors:
        return shown
    files = render(answers)
    kept = _typed(ours.differing(answers))
    project = str(asked[NAME])
    return shown | {
        "given": kept,
        "project": project,
        "command": recreate(ours, asked, Path(project)),
        "link": urlencode({VERSION: __version__, **kept}),
        "files": {path: _text(file) for path, file in files.items()},
        "needs": needs(_text(files["pyproject.toml"])),
    }


def resolved(given: Given) -> dict[str, Answer]:
    """Every answer of a project; raises `AnswerError` where some cannot stand."""
    ours = read(template_root())
    answers, errors = _judge(ours, given)
    if errors:
        lines = [f"{name}: {reason}" for name, reason in errors.items()]
        raise AnswerError(lines[0], "", *lines[1:])
    return ours.resolve(answers)


def read_link(text: str) -> Object:
    """Take the answers of a link, whoever wrote it: `given`, and lines that tell what was not taken."""
    if len(text) > MOST_LINK or text.count("&") >= MOST_PAIRS:
        return {"given": {}, "told": ["This link is too long to be one of mlscaffold. Nothing was taken."]}
    pairs = dict(parse_qsl(text, keep_blank_values=True))
    version = pairs.pop(VERSION, __version__)
    told = []
    if version != __version__:
        told.append(f"This link is of mlscaffold {short(version)}; this is {__version__}.")
    ours = read(template_root())
    answers, errors = _judge(ours, pairs)
    while errors:
        told += [f"{short(name)} was left out: {reason}" for name, reason in errors.items()]
        left = {name: value for name, value in pairs.items() if name not in errors}
        if len(left) == len(pairs):  # a default that does not go with the rest
            break
        pairs = left
        answers, errors = _judge(ours, pairs)
    return {"given": _typed(answers), "told": told}


def archive(given: Given) -> bytes:
    """Pack the project as a zip with one folder; raises `AnswerError`. Equal answers give equal bytes."""
    answers = resolved(given)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as new:
        for path, file in render(answers).items():
            entry = zipfile.ZipInfo(f"{answers[NAME]}/{path}", EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whose modes these are
            entry.external_attr = (0o100755 if file.executable else 0o100644) << 16
            new.writestr(entry, file.content)
    return packed.getvalue()


def needs(pyproject: str) -> list[Object]:
    """The packages that a project installs, with their bounds, and what its line says of one."""
    notes = dict(DEPENDENCY.findall(pyproject))
    lines = tomllib.loads(pyproject)["project"]["dependencies"]
    split = [re.split(r"(?=[<>=!~])", line, maxsplit=1) for line in lines]
    return [
        {"name": name, "bounds": "".join(bounds), "note": notes.get(line, "")}
        for line, (name, *bounds) in zip(lines, split, strict=True)
    ]


def _question(ours: Catalogue, question: Question) -> Object:
    title, note = _split(question.help)
    drawings = cast("dict[str, dict[str, list[str]]]", ours.settings["drawings"])
    drawn = drawings.get(question.name, {})
    return {
        "name": question.name,
        "ask": title,
        "title": question.title,
        "note": note,
        "several": question.multiselect,
        "takes_back": ours.given_for(question.name),
        "choices": [_choice(choice, drawn) for choice in question.choices],
    }


def _choice(choice: Choice, drawn: Mapping[str, list[str]]) -> Object:
    label, note = _split(choice.label)
    value = plain(choice.value)
    absent = value in ("none", "no")
    return {"value": value, "label": label, "note": note, "absent": absent, "drawing": drawn.get(value, [])}


def _split(text: str) -> tuple[str, str]:
    """What a text of the catalogue says, and what explains it in parentheses at its end."""
    title, bracket, note = text.partition(" (")
    return (title, note.removesuffix(")")) if bracket else (text, "")


def _typed(answers: Answers) -> dict[str, str]:
    return {name: plain(answer) for name, answer in answers.items()}


def _text(file: File) -> str:
    return file.content.decode(errors="replace")


def _judge(ours: Catalogue, given: Given) -> tuple[dict[str, Answer], dict[str, str]]:
    """Read answers; those that can be read, and for each question whose answer cannot stand why."""
    answers: dict[str, Answer] = {}
    errors: dict[str, str] = {}
    for name, typed in given.items():
        if not isinstance(typed, str):
            errors[name] = f"{short(typed)} is no text."
            continue
        try:
            answers[name] = ours[name].parse(typed)
        except AnswerError as error:
            errors[name] = str(error)
    every = ours.objections(answers)
    own = {name: reason for name, reason in every.items() if name in answers} | errors
    return answers, own or dict(list(every.items())[:1])  # defaults follow from what is wrong


def _closed(ours: Catalogue, answers: Answers) -> dict[str, dict[str, str]]:
    def reasons(choices: Iterable[Choice]) -> dict[str, str]:
        found = {plain(choice.value): ours.closed(choice, answers) for choice in choices if choice.validator}
        return {value: reason for value, reason in found.items() if reason}

    return {question.name: why for question in ours.questions if (why := reasons(question.choices))}
