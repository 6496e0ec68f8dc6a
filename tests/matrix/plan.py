"""Which combinations of answers the matrix looks at, read from the catalogue."""

import random
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from pathlib import Path

from mlscaffold.catalogue.questions import Answer, Answers, Catalogue, plain, read
from mlscaffold.errors import AnswerError
from mlscaffold.rendering.render import render
from tests.support.projects import Rendered
from tests.support.releases import ROOT

ANY_WORK = 4.0  # of each combination, in the unit of `work`
# How much longer a run takes, on a CPU, than one of images in float32 whose network is the task's.
SLOW = {"language-modeling": 2.0, "segmentation": 1.5, "fp16": 1.5, "transformers": 2.0}

Setting = tuple[str, str]  # a question and an answer, as they are written


def written(answer: Answer) -> str:
    """An answer without commas, which part answers from each other."""
    return plain(answer).replace(",", "+")


def named(answers: Answers) -> str:
    """What `--only` takes to choose this combination."""
    return ",".join(f"{name}={written(answer)}" for name, answer in answers.items())


def project_of(answers: Answers, root: Path = ROOT) -> Rendered:
    files = {name: file.content.decode() for name, file in render(answers, root).items()}
    return Rendered(dict(answers), files)


def legal(catalogue: Catalogue) -> list[Answers]:
    """The whole core matrix, and the questions outside it pairwise on top."""
    return [*catalogue.combinations(), *outside(catalogue)]


def outside(catalogue: Catalogue) -> list[Answers]:
    """A few combinations in which each answer outside the core meets each other answer once."""
    axes = {question.name: question.values for question in catalogue.questions if question.values}
    defaults = catalogue.resolve({})
    others = {name for name in axes if not catalogue[name].core}
    special = {
        (name, written(value)) for name in others for value in axes[name] if value != defaults[name]
    }  # combinations without any of these are part of the core
    pairs = {
        frozenset(pair)
        for first, second in combinations(axes, 2)
        for pair in product(settings(first, axes[first]), settings(second, axes[second]))
        if special & set(pair) and can_meet(catalogue, pair)
    }
    rows: list[Answers] = []
    while pairs:
        row = _row(catalogue, axes, pairs)
        pairs -= pairs_of(row)
        rows.append(row)
    return rows


def can_meet(catalogue: Catalogue, pair: Iterable[Setting]) -> bool:
    """Whether answers can stand together, if need be beside one more, as a GAN does beside its task."""
    answers = answers_of(catalogue, pair)
    others = [question for question in catalogue.questions if question.name not in answers]
    more = ({other.name: value} for other in others for value in other.values)
    return any(not catalogue.objections({**answers, **each}) for each in chain([{}], more))


def settings(name: str, values: Iterable[Answer]) -> list[Setting]:
    return [(name, written(value)) for value in values]


def answers_of(catalogue: Catalogue, pair: Iterable[Setting]) -> dict[str, Answer]:
    return {name: catalogue[name].parse(value.replace("+", ",")) for name, value in pair}


def pairs_of(answers: Answers) -> set[frozenset[Setting]]:
    return {frozenset(pair) for pair in combinations([(n, written(a)) for n, a in answers.items()], 2)}


def _row(
    catalogue: Catalogue, axes: dict[str, list[Answer]], pairs: set[frozenset[Setting]]
) -> dict[str, Answer]:
    """Answers to all questions in which a pair that is open meets, and more where it can be."""
    row = answers_of(catalogue, min(sorted(pair) for pair in pairs))
    for name in axes:
        if name in row:
            continue

        def gain(value: Answer, name: str = name) -> int:
            return len(pairs & pairs_of({**row, name: value}))

        possible = [value for value in axes[name] if not catalogue.objections({**row, name: value})]
        row[name] = max(possible, key=gain)
    return {name: row[name] for name in axes}


def sample(all_answers: Sequence[Answers], size: int, seed: int) -> list[Answers]:
    """Combinations, drawn with a seed, in which many pairs of answers meet for the work that they take.

    Greedily: the next one is that which has most pairs that have not met yet for each part of `work` that
    none before it has done.
    """
    left = list(all_answers)
    random.Random(seed).shuffle(left)
    pairs, parts = [pairs_of(answers) for answers in left], [work(answers) for answers in left]
    todo = set().union(*pairs)
    chosen: list[Answers] = []
    done: set[Hashable] = set()

    def gain(i: int) -> float:
        return len(pairs[i] & todo) / (ANY_WORK + sum(parts[i][part] for part in parts[i].keys() - done))

    while left and len(chosen) < size:
        best = max(range(len(left)), key=gain)
        todo -= pairs.pop(best)
        done |= parts.pop(best).keys()
        chosen.append(left.pop(best))
    return chosen


def work(answers: Answers) -> dict[Hashable, float]:
    """The programs of a combination, by the answers that make them differ, and about how long each runs."""
    each = 1.0 if answers.get("strategy") == "single" else 2.5
    each *= SLOW.get(str(answers.get("task")), 1.0) * SLOW.get(str(answers.get("precision")), 1.0)
    each *= SLOW.get(str(answers.get("pretrained")), 1.0)
    bodies = ("task", "generator", "pretrained", "optimizers", "framework", "strategy")
    plain = tuple(str(answers.get(name)) for name in bodies)
    precise = (*plain, str(answers.get("precision")))
    logged = (*precise, *(str(answers.get(name)) for name in ("loggers", "monitoring")))
    found: dict[Hashable, float] = {("numbers and harm", *plain): 3.5 * each}
    found |= {("plain", *precise): 2 * each, ("train", *logged): 3 * each}
    serving = answers.get("serving", "none")
    if serving != "none":
        found["export", *plain] = 4.0
    if serving not in ("none", "export"):
        found["serve", serving, *plain] = 3.0
    if answers.get("hpo", "none") != "none":
        found["tune", *logged] = 5 * each
    return found


def only(all_answers: Iterable[Answers], text: str, catalogue: Catalogue) -> list[Answers]:
    """Those that `framework=ignite,loggers=mlflow+wandb` describes; raises `AnswerError` if nothing can."""
    wanted = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        question = catalogue[name.strip()]
        answer = question.parse(value.strip().replace("+", ","))
        if wrong := question.unknown(answer):
            raise AnswerError(f"{question.name}: {wrong}")
        wanted[question.name] = answer
    found = [a for a in all_answers if all(catalogue.resolve(a)[name] == wanted[name] for name in wanted)]
    if not found:
        raise AnswerError(f"No combination of the matrix is {text}.")
    return found


@dataclass(frozen=True)
class Refused:
    """Answers that the catalogue does not offer, the question at fault, and what is said of it."""

    answers: Answers
    question: str
    reason: str


def ruled_out(catalogue: Catalogue) -> Iterator[Refused]:
    """A choice that is not there for each question, and each combination of answers that a rule closes."""
    closed = [question for question in catalogue.questions if question.values]
    for question in closed:
        value: Answer = ["nonsense"] if question.multiselect else "nonsense"
        if question.type != "bool":
            yield Refused({question.name: value}, question.name, question.unknown(value))
    for pair in combinations(closed, 2):
        if all(question.core for question in pair):
            continue
        for values in product(*(question.values for question in pair)):
            answers = {question.name: value for question, value in zip(pair, values, strict=True)}
            for name, reason in catalogue.objections(answers).items():
                yield Refused(answers, name, reason)
    core = [question for question in closed if question.core]
    for values in product(*(question.values for question in core)):
        answers = {question.name: value for question, value in zip(core, values, strict=True)}
        for name, reason in catalogue.objections(answers).items():
            yield Refused(answers, name, reason)
            break


def catalogue_of(root: Path = ROOT) -> Catalogue:
    return read(root)
