"""Starter kits: a team's own defaults, the answers that it locks, and an overlay of its own files.

A kit is a folder with a `kit.yml`. Its overlay is a second Copier template beside it: `copier.yml` and what
its `_subdirectory` holds, with an answers file of its own, so that `copier update -a` and `mlscaffold update`
bring it forward. Nothing of a kit is ever run, and nothing of it is written outside the project.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mlscaffold import __version__
from mlscaffold.catalogue.answers import read_mapping
from mlscaffold.catalogue.questions import Answer, Answers, Catalogue, plain, read
from mlscaffold.errors import AnswerError, KitError, MlscaffoldError, did_you_mean, short
from mlscaffold.kits.obeyed import refuse_each, refuse_obeyed
from mlscaffold.kits.safety import unsafe
from mlscaffold.rendering.render import File, render
from mlscaffold.screen import in_a_line
from mlscaffold.system.bounds import bounded
from mlscaffold.system.documents import parse

FILE = "kit.yml"
TEXTS = ("name", "description", "mlscaffold")
KEYS = (*TEXTS, "defaults", "locks")
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
OF_TEAM = {"AGENTS.md", "CLAUDE.md"}  # a kit's own take the place of the template's


@dataclass(frozen=True)
class Kit:
    name: str
    description: str
    versions: str  # of mlscaffold that it was made for, such as ">=0.2,<0.3"
    defaults: dict[str, Answer]
    locks: dict[str, Answer]  # answers that nobody changes
    folder: Path  # where it is read: of a kit in a folder, our own copy
    place: Path  # where it is for the user
    source: str = ""  # where an update fetches the overlay, and the release that this is; nothing of
    commit: str = ""  # both for a folder without history

    @property
    def has_overlay(self) -> bool:
        return (self.folder / "copier.yml").is_file()

    @property
    def answers_file(self) -> str:
        return f".copier-answers.{self.name}.yml"

    def require_this_version(self) -> None:
        """Refuse a kit that was made for other versions of mlscaffold."""
        if not SpecifierSet(self.versions, prereleases=True).contains(Version(__version__)):
            raise KitError(
                f"The kit {self.name} was made for mlscaffold {self.versions}, and this is {__version__}.",
                "Install a version that it names, or a newer kit.",
            )

    def refuse_changes(self, answers: Answers) -> None:
        """Refuse answers that contradict what the kit locks."""
        for name, locked in self.locks.items():
            if name in answers and answers[name] != locked:
                raise AnswerError(
                    f"{name}={plain(answers[name])}: the kit {self.name} locks {name}={plain(locked)}.",
                    "Leave it out, or use another kit.",
                )

    def own_defaults(self, catalogue: Catalogue) -> dict[str, Answer]:
        """Its defaults for questions of ours; the others are for questions of its overlay."""
        names = {question.name for question in catalogue.questions}
        return {name: answer for name, answer in self.defaults.items() if name in names}

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Bound what the kit computes inside; what is wrong is said of the place that the user knows."""
        with _said_of(self.folder, self.place), bounded(self.folder):
            yield

    def names(self, answers: Answers) -> list[str]:
        """Every path that its own files can have in a project of these names, whatever else is answered."""
        if not self.has_overlay:
            return []
        from mlscaffold.kits.names import possible_names

        with self.bounded():
            return possible_names(read(self.folder), answers)

    def overlay(self, answers: Answers, project: Mapping[str, File]) -> dict[str, File]:
        """Render the kit's own files beside those of a project; refuses a poisoned kit."""
        if not self.has_overlay:
            return {}
        try:
            with self.bounded():
                refuse_each(project, self.names(answers), self.answers_file)
                files = self._rendered(read(self.folder), answers)
        except MlscaffoldError:
            raise
        except Exception as error:  # settings of another type than Copier takes
            wrong = f"The kit {self.name} cannot be used: {type(error).__name__}: {short(str(error))}."
            raise KitError(wrong) from error
        refuse_another_origin(files, self.answers_file, self.source, self.commit)
        return apart(project, files, self.answers_file)

    def _rendered(self, catalogue: Catalogue, answers: Answers) -> dict[str, File]:
        known = {question.name for question in catalogue.questions}
        every = self.defaults | dict(answers)
        given = {name: answer for name, answer in every.items() if name in known}
        if objections := catalogue.objections(given):
            raise KitError(f"The kit {self.name} cannot be used: {'; '.join(objections.values())}")
        return render(given, self.folder, self.commit or None, self.source)


def refuse_another_origin(files: Mapping[str, File], answers_file: str, source: str, commit: str) -> None:
    """Refuse an overlay whose answers file is missing, or would let updates come from elsewhere."""
    if answers_file not in files:
        raise KitError(
            f"The overlay of the kit writes no {answers_file}, so it could not be updated.",
            f"Set `_answers_file: {answers_file}` in its copier.yml, and keep the file"
            " `{{ _copier_conf.answers_file }}.jinja`.",
        )
    stored = parse(files[answers_file].content, answers_file)
    origin = {"_src_path": source, "_commit": commit}
    if not isinstance(stored, dict) or any((stored.get(key) or "") != origin[key] for key in origin):
        raise KitError(
            f"{answers_file} of the kit does not say where the kit came from.",
            "It holds `{{ _copier_answers | to_nice_yaml }}`, and nothing else.",
        )


@contextmanager
def _said_of(folder: Path, place: Path) -> Iterator[None]:
    try:
        yield
    except MlscaffoldError as error:
        error.args = (str(error).replace(str(folder), str(place)),)
        raise


def read_kit(
    folder: Path, catalogue: Catalogue, source: str = "", commit: str = "", place: Path | None = None
) -> Kit:
    """Read `kit.yml`; raises `KitError` for anything in it that cannot be meant."""
    place = place or folder
    with _said_of(folder, place), bounded(folder):
        return replace(_read_kit(folder, catalogue), place=place, source=source, commit=commit)


def _read_kit(folder: Path, catalogue: Catalogue) -> Kit:
    path = folder / FILE
    if not path.is_file():
        raise KitError(f"{folder} holds no {FILE}.", "`mlscaffold kit new FOLDER` starts a kit.")
    if reason := unsafe(folder):
        raise KitError(f"{folder}: {reason}.", "Nothing was written.")
    content = {str(key): value for key, value in read_mapping(path).items()}
    for key in content:
        if key not in KEYS:
            raise KitError(
                f"{path}: {key!r} is no key of a kit.",
                did_you_mean(key, KEYS) or f"There are {', '.join(KEYS)}.",
            )
    for key in TEXTS:
        if not isinstance(content.get(key, ""), str):
            raise KitError(f"{path}: {key} is {short(content[key])}, no text.", "Put it in quotes.")
    name, description, versions = (str(content.get(key, "")) for key in TEXTS)
    if not NAME.fullmatch(name):
        raise KitError(f"{path}: name is {short(name)}.", "Use lower case letters, digits and '-'.")
    try:
        SpecifierSet(versions).contains(__version__)
    except ValueError:  # of packaging, or a number of more digits than Python reads
        raise KitError(
            f"{path}: mlscaffold is {short(versions)}.", "Write versions such as '>=0.2,<0.3'."
        ) from None
    locks = _answers(content.get("locks"), path, "locks", [catalogue])
    own = [read(folder)] if (folder / "copier.yml").is_file() else []
    defaults = _answers(content.get("defaults"), path, "defaults", [catalogue, *own])
    return Kit(name, in_a_line(description), versions, defaults | locks, locks, folder, folder)


def _answers(given: object, path: Path, key: str, catalogues: list[Catalogue]) -> dict[str, Answer]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise KitError(f"{path}: {key} is no mapping.", "Write lines such as `framework: ignite`.")
    answers: dict[str, Answer] = {}
    for name, value in given.items():
        owner = next((c for c in catalogues if any(q.name == name for q in c.questions)), catalogues[0])
        try:
            question = owner[str(name)]
            answers[question.name] = question.check_type(value)
        except AnswerError as error:
            raise KitError(f"{path}: {key}: {error}") from error
        if reason := question.unknown(answers[question.name]):
            raise KitError(f"{path}: {key}: {name}: {reason}")
    return answers


def released_names(folder: Path) -> list[str]:
    """What a release of a kit holds."""
    return [FILE, "copier.yml", str(read_mapping(folder / "copier.yml").get("_subdirectory", ""))]


def apart(project: Mapping[str, File], overlay: dict[str, File], answers_file: str) -> dict[str, File]:
    """Return the files of an overlay; refuse those of the project, and those that tools obey unasked.

    Not those in which a team tells agents what to do: a line of the template in them is the team's to keep.
    """
    if both := sorted((project.keys() & overlay.keys()) - OF_TEAM):
        raise KitError(
            f"{answers_file}: both the project and the kit write {', '.join(both)}.", "Rename the kit's file."
        )
    if project:  # else these are the files of the project
        refuse_obeyed(project, overlay, answers_file)
    return overlay
