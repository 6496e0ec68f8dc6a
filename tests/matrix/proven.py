"""What earlier runs of the matrix have shown: see `tests.support.proofs`."""

import json
import os
from collections.abc import Iterable, Sequence

from mlscaffold.catalogue.questions import Answers
from tests.matrix.plan import named
from tests.matrix.run import FIRST, PRECISION
from tests.support import proofs
from tests.support.proofs import Input, Proof

ALIKE: Sequence[Answers] = ({"loggers": []}, {"framework": FIRST}, {"precision": PRECISION})  # what runs are
# compared with differs in these


def combination(answers: Answers, device: str) -> Proof:
    """The proof that all runs of a combination do what they should."""
    proof = Proof(f"on {device}: {named(answers)}", "tests.matrix.session")
    proof.imports_tool = False  # projects are all that runs read of it
    return proof


def whole(all_answers: Iterable[Answers], device: str) -> Proof:
    """The proof that all stages have passed for these combinations."""
    return Proof(f"on {device}: {[named(answers) for answers in all_answers]}", "tests.matrix.session")


def inputs(answers: Answers) -> set[Input]:
    return {("project", json.dumps(dict(each), sort_keys=True)) for each in compared(answers)}


def compared(answers: Answers) -> list[Answers]:
    """A combination, and those that its runs are compared with."""
    found: list[Answers] = [answers]
    for other in ALIKE:
        found += [{**each, **other} for each in found]
    return found


def keep(passed: Iterable[Answers], everything: Proof | None, device: str) -> None:
    """Keep the proofs of a run that has ended."""
    proofs.PLACE.mkdir(exist_ok=True)
    for answers in passed:
        combination(answers, device).keep(inputs(answers), proofs.PLACE)
    if everything:
        everything.keep(set(), proofs.PLACE)


def fresh() -> bool:
    return bool(os.environ.get("FRESH"))
