"""Plan what a newer release or other answers do to a project, in git's objects: nothing is touched."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlscaffold.catalogue.questions import Answer, Answers, Catalogue, plain, read
from mlscaffold.errors import AnswerError, ProjectError
from mlscaffold.kits.kit import Kit, apart, read_kit, refuse_another_origin
from mlscaffold.kits.obeyed import refuse_obeyed
from mlscaffold.kits.safety import refuse_what_is_unsafe
from mlscaffold.releases.fetch import Templates, is_older
from mlscaffold.releases.own import SOURCE
from mlscaffold.rendering.render import File, render
from mlscaffold.update.merge import Conflicts, Merged, Store
from mlscaffold.update.project import Layer, Project, open_project
from mlscaffold.update.requirements import requirements

PYPROJECT = "pyproject.toml"
KINDS = {"A": "added", "M": "changed", "T": "changed", "D": "removed"}


@dataclass(frozen=True)
class Step:
    """What happens to one template of a project."""

    layer: Layer
    commit: str  # the release that it goes to
    answers: dict[str, Answer]  # that it goes to
    reset: dict[str, str]  # answers that cannot stay as they are, each with the reason

    @property
    def changed(self) -> dict[str, tuple[object, Answer]]:
        """Answers that differ from those that the project has stored."""
        stored = self.layer.answers
        return {n: (stored.get(n), a) for n, a in self.answers.items() if n in stored and stored[n] != a}


@dataclass(frozen=True)
class Task:
    """Files of the task folder that somebody edited: an update leaves them whole."""

    kept: list[str]  # those of them that the template changed
    base: str = ""  # trees: the template's files as they were,
    theirs: str = ""  # and as they are now


@dataclass(frozen=True)
class Plan:
    """Everything that an update does, before it does it."""

    project: Project
    store: Store
    steps: tuple[Step, ...]
    base: str  # trees: the project as its templates made it,
    before: str  # as it is committed,
    merged: Merged  # and as it will be
    files: dict[str, str]  # what happens to each file that changes
    task: Task = field(default_factory=lambda: Task([]))  # what stays as it is, as it is the user's

    @property
    def dropped(self) -> list[str]:
        return self.merged.dropped

    @property
    def conflicts(self) -> Conflicts:
        return self.merged.conflicts

    @property
    def packages(self) -> dict[str, list[str]] | None:
        """What is to be installed, and what no more; `None` while pyproject.toml is in conflict."""
        before, after = (requirements(self.store.text(t, PYPROJECT)) for t in (self.before, self.merged.tree))
        if before is None or after is None:
            return None
        return {
            "added": [line for line in after if line not in before],
            "removed": [line for line in before if line not in after],
        }

    def as_json(self) -> dict[str, object]:
        return {
            "templates": [
                {
                    "answers_file": step.layer.answers_file,
                    "from": step.layer.commit,
                    "to": step.commit,
                    "answers_changed": step.changed,
                    "answers_reset": step.reset,
                }
                for step in self.steps
            ],
            "files": self.files,
            "conflicts": sorted(self.conflicts),
            "dropped_edits": self.dropped,
            "kept_deleted": self.merged.kept_deleted,
            "task_kept": self.task.kept,
            "layout_lost": self.merged.relaid,
            "packages": self.packages,
        }


def plan_update(folder: Path, to: str | None, templates: Templates) -> Plan:
    """Plan the way to release `to`, by default to the newest that its source has; kits go to their newest."""
    project = open_project(folder)
    targets = {layer.answers_file: templates.newest(layer.source, layer.commit) for layer in project.layers}
    if to is not None:
        targets[project.layers[0].answers_file] = f"v{to.removeprefix('v')}"
    for layer in project.layers:
        target = targets[layer.answers_file]
        templates.check(layer.source, target)
        templates.check(layer.source, layer.commit)
        if is_older(target, layer.commit):
            raise ProjectError(
                f"{target} is older than {layer.commit}, which {layer.answers_file} names.",
                "Updates go forward; to go back, use git.",
            )
    return _plan(project, targets, {}, templates, keep_task=True)


def plan_change(folder: Path, words: list[str], templates: Templates) -> Plan:
    """Plan other answers: words such as `serving=fastapi`, `loggers+=wandb`, `loggers-=wandb`."""
    project = open_project(folder)
    catalogues = [read(templates.root(layer.source, layer.commit)) for layer in project.layers]
    answers = {
        name: a
        for c, layer in zip(catalogues, project.layers, strict=True)
        for name, a in _known(c, layer).items()
    }
    changes: dict[str, Answer] = {}
    for word in words:
        name, answer = parse_change(_owner(catalogues, word), answers | changes, word)
        changes[name] = answer
    changes |= _taken_back(catalogues[0], answers, changes)
    targets = {layer.answers_file: layer.commit for layer in project.layers}
    for kit in _kits(project, targets, templates):
        kit.refuse_changes(changes)
    return _plan(project, targets, changes, templates)


def _taken_back(catalogue: Catalogue, answers: Answers, changes: Answers) -> dict[str, Answer]:
    """The answers that go with what changes, with their defaults."""
    changed = [name for name, answer in changes.items() if answer != answers.get(name)]
    names = {follower for name in changed for follower in catalogue.given_for(name)} - changes.keys()
    return {name: catalogue.default(catalogue[name], {**answers, **changes}) for name in names}


def _owner(catalogues: list[Catalogue], word: str) -> Catalogue:
    """The catalogue whose question a change is about: ours, unless only a kit has one of this name."""
    name = parse_name(word)
    return next((c for c in catalogues if any(q.name == name for q in c.questions)), catalogues[0])


def _kits(project: Project, targets: Mapping[str, str], templates: Templates) -> Iterator[Kit]:
    """The kits of a project as they will be; each template that is not of this package is found safe."""
    first, *others = project.layers
    for layer in project.layers if first.source != SOURCE else others:
        for commit in {layer.commit, targets[layer.answers_file]}:
            refuse_what_is_unsafe(templates.root(layer.source, commit))
    catalogue = read(templates.root(first.source, targets[first.answers_file]))
    for layer in others:
        yield read_kit(templates.root(layer.source, targets[layer.answers_file]), catalogue)


def parse_name(word: str) -> str:
    return word.partition("=")[0].rstrip("+-")


def parse_change(catalogue: Catalogue, answers: Answers, word: str) -> tuple[str, Answer]:
    """Read one change of an answer."""
    left, equals, text = word.partition("=")
    if not equals:
        raise AnswerError(
            f"{word!r} changes no answer.", "Write KEY=VALUE, or KEY+=VALUE and KEY-=VALUE for lists."
        )
    question = catalogue[parse_name(word)]
    answer = question.parse(text)
    if left[-1:] not in "+-":
        return question.name, answer
    if not question.multiselect:
        raise AnswerError(f"{word}: {question.name} is no list.", f"Write {question.name}=VALUE.")
    present, given = list(answers[question.name]), list(answer)  # type: ignore[arg-type]
    if left.endswith("+"):
        return question.name, question.check_type([*present, *given])
    return question.name, question.check_type([value for value in present if value not in given])


def _plan(
    project: Project,
    targets: Mapping[str, str],
    changes: Answers,
    templates: Templates,
    *,
    keep_task: bool = False,
) -> Plan:
    locks = {name: answer for kit in _kits(project, targets, templates) for name, answer in kit.locks.items()}
    forced = {**locks, **changes}
    steps: list[Step] = []
    old: dict[str, File] = {}
    new: dict[str, File] = {}
    for layer in project.layers:
        step = _step(layer, targets[layer.answers_file], forced, templates)
        forced = {**forced, **step.answers}  # a kit's questions of the same name follow ours
        before = read(templates.root(layer.source, layer.commit))
        old |= _rendered(layer, layer.commit, _known(before, layer), templates)
        files = _rendered(layer, step.commit, step.answers, templates)
        if layer != project.layers[0]:
            refuse_another_origin(files, layer.answers_file, layer.source, step.commit)
        elif layer.source != SOURCE:
            _refuse_new_obeyed(old, files, layer, changes)
        new |= apart(new, files, layer.answers_file)
        steps.append(step)
    store = Store(project.top)
    ours = store.subtree(project.prefix)
    # Answers files are the template's alone: what it writes there is right, whatever somebody changed.
    stored = [store.entry(ours, layer.answers_file) for layer in project.layers]
    base, theirs = store.edit(store.tree_of(old), stored), store.tree_of(new)
    task = Task(_edited_task(store, base, ours, theirs, project) if keep_task else [], base, theirs)
    _refuse_another_task(steps[0], store, base, ours, project)
    taken = store.edit(theirs, [store.entry(base, path) for path in task.kept])
    merged = store.merge(base, ours, taken, f"template {steps[0].commit}")
    return Plan(
        project, store, tuple(steps), base, ours, merged, _changed_files(store, ours, merged.tree), task
    )


def _task_folder(project: Project) -> str:
    return f"src/{project.layers[0].answers.get('package')}/task/"


def _edited_task(store: Store, base: str, ours: str, theirs: str, project: Project) -> list[str]:
    """Files of the task folder that somebody edited and that the template changed, too."""
    folder = _task_folder(project)
    edited, changed = (store.changed(base, tree, folder) for tree in (ours, theirs))
    return sorted(path for path, kind in edited.items() if kind in "MT" and path in changed)


def _refuse_another_task(step: Step, store: Store, base: str, ours: str, project: Project) -> None:
    """Another task would take the place of what is the user's."""
    if "task" in step.changed and (edited := sorted(store.changed(base, ours, _task_folder(project)))):
        old, new = step.changed["task"]
        raise AnswerError(
            f"task={plain(new)}: {', '.join(edited)} is yours by now, written for task={old}.",
            "Make a new project for another task.",
        )


def _refuse_new_obeyed(
    old: Mapping[str, File], new: Mapping[str, File], layer: Layer, changes: Answers
) -> None:
    """Refuse what tools obey unasked where a first template that is not ours had no such file before."""
    kept = [*(old.keys() & new.keys())]
    if "package" in changes:  # typed by the user, so that all of it is new
        kept.append(f"src/{plain(changes['package'])}/__init__.py")
    refuse_obeyed(kept, sorted(new.keys() - old.keys()), layer.answers_file)


def _known(catalogue: Catalogue, layer: Layer) -> dict[str, Answer]:
    """The stored answers to the questions of the release that they were given to."""
    names = {question.name for question in catalogue.questions}
    answers = {name: value for name, value in layer.answers.items() if name in names}
    return catalogue.resolve({name: catalogue[name].check_type(value) for name, value in answers.items()})


def _step(layer: Layer, commit: str, changes: Answers, templates: Templates) -> Step:
    """Carry the stored answers over to a release; those that it refuses fall back to its defaults."""
    catalogue = read(templates.root(layer.source, commit))
    names = {question.name for question in catalogue.questions}
    given: dict[str, Answer] = {}
    reset: dict[str, str] = {}
    for name, value in layer.answers.items():
        if name not in names:
            reset[name] = "the question is gone"
            continue
        try:
            given[name] = catalogue[name].check_type(value)
        except AnswerError as error:
            reset[name] = str(error)
    given |= {name: answer for name, answer in changes.items() if name in names}
    while objections := {n: why for n, why in catalogue.objections(given).items() if n in given}:
        name, why = next(iter(objections.items()))
        if name in changes:
            raise AnswerError(f"{name}={plain(changes[name])}: {why}")
        reset[name] = why
        del given[name]
    return Step(layer, commit, catalogue.resolve(given), reset)


def _rendered(layer: Layer, commit: str, answers: Answers, templates: Templates) -> dict[str, File]:
    return render(answers, templates.root(layer.source, commit), commit, layer.source)


def _changed_files(store: Store, before: str, after: str) -> dict[str, str]:
    return {path: KINDS[kind] for path, kind in store.changed(before, after).items()}
