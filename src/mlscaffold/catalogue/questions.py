"""The questions that a project is generated from, read from `copier.yml`.

Copier asks these questions; this module lets the rest of mlscaffold read them too: flags, prompts, rules, the
option table and the test matrix. It declares no option of its own.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mlscaffold.errors import AnswerError, CatalogueError, MlscaffoldError, did_you_mean, short
from mlscaffold.releases.own import is_own
from mlscaffold.system.documents import load

if TYPE_CHECKING:  # --help and completion do without Jinja
    from jinja2.sandbox import SandboxedEnvironment

Answer = str | bool | list[str]
Answers = Mapping[str, Answer]

NAME = "project"  # the question that the name of the target folder answers

# What a template may set of Jinja. Others, such as `extensions`, would import what they name.
ENVOPS = {
    "autoescape",
    "block_end_string",
    "block_start_string",
    "comment_end_string",
    "comment_start_string",
    "keep_trailing_newline",
    "line_comment_prefix",
    "line_statement_prefix",
    "lstrip_blocks",
    "newline_sequence",
    "trim_blocks",
    "undefined",
    "variable_end_string",
    "variable_start_string",
}
MARKS = {"block_start_string": "{%", "variable_start_string": "{{", "comment_start_string": "{#"}
MARK_ENDS = ("_start_string", "_prefix")
WORDS = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True)
class Choice:
    value: str | bool
    label: str
    validator: str = ""  # Jinja; renders to the reason why this choice is closed, or to nothing


@dataclass(frozen=True)
class Question:
    name: str
    help: str
    type: str  # "str" or "bool"
    default: Answer  # text in it is Jinja and sees the answers to earlier questions
    choices: tuple[Choice, ...] = ()
    multiselect: bool = False
    validator: str = ""
    computed: bool = False  # never asked, never stored: a value that templates derive from answers
    core: bool = True  # an axis of the matrix that our tests prove in full
    literal: bool = False  # the default comes from a kit, and is no Jinja

    @property
    def title(self) -> str:
        """What is asked, without what explains it."""
        return self.help.partition(" (")[0].rstrip("?")

    @property
    def values(self) -> list[Answer]:
        """Every answer there is, the first choice first; empty for free text."""
        if self.multiselect:
            names = [str(choice.value) for choice in self.choices]
            sets = chain.from_iterable(combinations(names, size) for size in range(len(names) + 1))
            return [list(subset) for subset in sets]
        if self.type == "bool" and not self.choices:
            return [False, True]
        return [choice.value for choice in self.choices]

    def parse(self, text: str) -> Answer:
        """Read an answer as it is typed: `yes`, `ddp`, `tensorboard,wandb`; `none` is the empty set."""
        if not self.multiselect:
            return self.check_type(text)
        known = {choice.value for choice in self.choices}
        names = [name.strip() for name in text.split(",") if name.strip()]
        return self.check_type([] if names == ["none"] and "none" not in known else names)

    def unknown(self, answer: Answer) -> str:
        """Say which part of an answer is none of the choices; nothing when all are, or when text is free."""
        known = [plain(choice.value) for choice in self.choices]
        for item in answer if isinstance(answer, list) else [answer]:
            if known and plain(item) not in known:
                wrong = f"{short(plain(item))} is not offered, only {', '.join(known)}."
                return f"{wrong} {did_you_mean(plain(item), known)}".strip()
        return ""

    def check_type(self, value: object) -> Answer:
        """Take a value of this question's type, several in the order of the choices; refuse any other."""
        if self.multiselect:
            if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                raise AnswerError(f"{self.name}: {short(value)} is no list of names.", "Write [a, b], or [].")
            order = {choice.value: place for place, choice in enumerate(self.choices)}
            return sorted(set(value), key=lambda item: (order.get(item, len(order)), item))
        if self.type == "bool":
            if isinstance(value, str):
                value = WORDS.get(value.lower(), value)
            if not isinstance(value, bool):
                raise AnswerError(f"{self.name}: {short(value)} is neither true nor false.")
            return value
        if not isinstance(value, str):
            raise AnswerError(f"{self.name}: {short(value)} is no text.", "Put it in quotes.")
        return value


@dataclass(frozen=True, eq=False)
class Catalogue:
    root: Path  # the folder of copier.yml, where paths of includes begin
    settings: Mapping[str, object]  # the keys of copier.yml that begin with "_", without it
    everything: tuple[Question, ...]  # asked and computed, in the order in which they depend on each other

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """The questions that someone answers, in the order in which they are asked."""
        return tuple(question for question in self.everything if not question.computed)

    def with_defaults(self, defaults: Answers) -> "Catalogue":
        """The same questions, some with other defaults: values as they are, since a kit may write them."""
        every = (
            replace(q, default=defaults[q.name], literal=True) if q.name in defaults else q
            for q in self.everything
        )
        return replace(self, everything=tuple(every))

    def given_for(self, name: str) -> list[str]:
        """The questions whose answers do not outlive that of `name`: reasons for a choice, say."""
        pairs = cast("dict[str, str]", self.settings.get("given_for", {}))
        return [follower for follower, leader in pairs.items() if leader == name]

    def __getitem__(self, name: str) -> Question:
        """Look a question up; an unknown name is answered with the nearest one."""
        for question in self.questions:
            if question.name == name:
                return question
        known = [question.name for question in self.questions]
        remedy = did_you_mean(name, known) or f"There are: {', '.join(known)}."
        raise AnswerError(f"{short(name)} is no option.", remedy)

    @cached_property
    def environment(self) -> "SandboxedEnvironment":
        """The Jinja that renders rules, file names and files, set up as Copier does it."""
        from mlscaffold.catalogue.jinja import environment

        given = cast("dict[str, object]", self.settings.get("envops", {}))
        if strange := given.keys() - ENVOPS:
            raise CatalogueError(
                f"{self.root / 'copier.yml'}: _envops sets {', '.join(sorted(map(str, strange)))}.",
                "Templates set how Jinja reads them, and nothing that it would load or run.",
            )
        return environment(self.root, {"keep_trailing_newline": True, **given})

    def evaluate(self, text: str, answers: Mapping[str, object]) -> str:
        """Render a rule, a default or a file name of the catalogue."""
        if not self.is_template(text):
            return text
        from mlscaffold.catalogue.jinja import TEXT

        with self.bounded():
            try:
                return self.environment.get_template(TEXT + text).render(answers)
            except Exception as error:  # whatever a template calls can raise
                raise CatalogueError(
                    f"{self.root / 'copier.yml'}: {short(text)} does not render: {error}."
                ) from error

    def is_template(self, text: str) -> bool:
        """Whether Jinja would find anything in a text; most are no templates, and compiling takes time."""
        return any(mark in text for mark in self._marks)

    @cached_property
    def _marks(self) -> tuple[str, ...]:
        """What begins a statement, an expression or a comment; a template may set others than Jinja's."""
        given = self.settings.get("envops", {})
        every = MARKS | given if isinstance(given, dict) else MARKS
        return tuple(str(mark) for name, mark in every.items() if name.endswith(MARK_ENDS) and mark)

    def bounded(self) -> AbstractContextManager[None]:
        """Bound what a template of others computes inside; ours are trusted, and bounds take time."""
        if self.is_own:
            return nullcontext()
        from mlscaffold.system.bounds import bounded

        return bounded(self.root)

    @cached_property
    def is_own(self) -> bool:
        return is_own(self.root)

    def complete(self, given: Answers) -> dict[str, Answer]:
        """Answer every question, computed ones too: what is given, else the default. No rule is looked at."""
        for name in given:
            self[name]
        answers: dict[str, Answer] = {}
        with self.bounded():
            for question in self.everything:
                value = given[question.name] if question.name in given else self.default(question, answers)
                answers[question.name] = question.check_type(value)
        return answers

    def resolve(self, given: Answers) -> dict[str, Answer]:
        """Answer every question that is asked: what a project stores."""
        answers = self.complete(given)
        return {question.name: answers[question.name] for question in self.questions}

    def differing(self, answers: Answers, defaults: Answers | None = None) -> dict[str, Answer]:
        """The answers that are no defaults, as these follow from the answers before; some may be others."""
        found: dict[str, Answer] = {}
        before: dict[str, Answer] = {}
        with self.bounded():
            for question in self.everything:
                name = question.name
                default = (defaults or {}).get(name)
                if default is None:
                    default = question.check_type(self.default(question, before))
                before[name] = answers.get(name, default)
                if before[name] != default:
                    found[name] = before[name]
        return found

    def default(self, question: Question, answers: Answers) -> Answer:
        """Render the default of a question from the answers to those before it."""
        value = question.default
        if question.literal:
            return value
        if isinstance(value, list):
            return [self.evaluate(item, answers) for item in value]
        return self.evaluate(value, answers) if isinstance(value, str) else value

    def objections(self, given: Answers) -> dict[str, str]:
        """Say for each question whose answer cannot stand why, in the words of the catalogue."""
        with self.bounded():
            answers = self.complete(given)
            found = {question.name: self.objection(question, answers) for question in self.questions}
        return {name: reason for name, reason in found.items() if reason}

    def objection(self, question: Question, answers: Answers) -> str:
        """Say why the answer to one question cannot stand, given the earlier ones; nothing when it can."""
        value = answers[question.name]
        if reason := question.unknown(value):
            return reason
        for choice in question.choices:
            chosen = choice.value in value if isinstance(value, list) else choice.value == value
            if chosen and (reason := self.closed(choice, answers)):
                return reason
        return self.evaluate(question.validator, answers).strip()

    def closed(self, choice: Choice, answers: Answers) -> str:
        """Say why earlier answers rule a choice out; nothing when they do not."""
        return self.evaluate(choice.validator, answers).strip()

    def combinations(self) -> Iterator[dict[str, Answer]]:
        """Every legal set of answers to the questions of the core matrix; the others keep their defaults."""
        axes = [question for question in self.questions if question.core and question.values]
        for answers in self._legal(self.everything, axes):
            yield {axis.name: answers[axis.name] for axis in axes}

    def reasons(self, question: Question, choice: Choice) -> list[str]:
        """Every reason for which earlier answers can rule a choice out."""
        if not choice.validator:
            return []
        earlier = self.everything[: self.everything.index(question)]
        axes = [question for question in earlier if question.values and not question.computed]
        found = (self.closed(choice, answers) for answers in self._legal(earlier, axes))
        return [reason for reason in dict.fromkeys(found) if reason]

    def _legal(self, questions: Sequence[Question], axes: Sequence[Question]) -> Iterator[dict[str, Answer]]:
        """Every legal set of answers to the axes, the other questions with their defaults."""
        if not questions:
            yield {}
            return
        *earlier, last = questions
        for answers in self._legal(earlier, axes):
            for value in last.values if last in axes else [self.default(last, answers)]:
                extended = {**answers, last.name: last.check_type(value)}
                if last.computed or not self.objection(last, extended):
                    yield extended


@cache
def read(root: Path) -> Catalogue:
    """Read `copier.yml` in `root`, once per process."""
    path = root / "copier.yml"
    try:
        document = load(path, measured=not is_own(root))
    except MlscaffoldError as error:
        raise CatalogueError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise CatalogueError(f"{path} holds no questions.")
    try:
        return _catalogue(root, document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a value of another type
        wrong = f"{path} is no catalogue: {type(error).__name__}: {short(str(error))}."
        raise CatalogueError(wrong) from error


def _catalogue(root: Path, document: dict[str, object]) -> Catalogue:
    settings = {name[1:]: value for name, value in document.items() if name.startswith("_")}
    outside = cast("list[str]", settings.get("outside_core", []))
    questions = [_question(name, spec) for name, spec in document.items() if not name.startswith("_")]
    return Catalogue(
        root=root,
        settings=settings,
        everything=tuple(replace(question, core=question.name not in outside) for question in questions),
    )


def _question(name: str, spec: object) -> Question:
    if not isinstance(spec, dict) or "default" not in spec:
        raise CatalogueError(f"copier.yml: {name} has no default.", "A script could not answer it.")
    if spec.get("type") not in ("str", "bool") or not isinstance(spec.get("when", True), bool):
        raise CatalogueError(f"copier.yml: {name}: type is str or bool, and when is true or false.")
    return Question(
        name=name,
        help=spec.get("help", ""),
        type=spec["type"],
        default=spec["default"],
        choices=tuple(_choices(spec.get("choices", []))),
        multiselect=spec.get("multiselect", False),
        validator=spec.get("validator", ""),
        computed=spec.get("when") is False,
    )


def _choices(spec: list[str | bool] | dict[str, object]) -> Iterator[Choice]:
    pairs = spec.items() if isinstance(spec, dict) else [(str(value), value) for value in spec]
    for label, value in pairs:
        if isinstance(value, dict):
            yield Choice(value["value"], str(label), value.get("validator", ""))
        else:
            yield Choice(cast("str | bool", value), str(label))


def plain(value: Answer) -> str:
    """Write an answer as it is typed; `Question.parse` reads it."""
    if isinstance(value, list):
        return ",".join(value) or "none"
    return ("no", "yes")[value] if isinstance(value, bool) else value


def folder_name(target: Path) -> str:
    """Name the folder that `.` or `../here` stands for."""
    return Path(os.path.abspath(target)).name  # noqa: PTH100 (resolve would follow links)
