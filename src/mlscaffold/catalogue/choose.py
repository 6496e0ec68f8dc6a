"""Recommend a task, and Lightning, Ignite, or one of each, from what a project is like.

Only what a project of `mlscaffold new` has weighs: one model, one optimizer, and the same abilities in both.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlscaffold.catalogue.answers import Given
from mlscaffold.catalogue.questions import Answer, Answers, Catalogue, Choice, Question
from mlscaffold.catalogue.words import flag_name, flag_words
from mlscaffold.system.terminal import can_ask, fold

FRAMEWORKS = ("lightning", "ignite")
TITLES = {"lightning": "PyTorch Lightning", "ignite": "PyTorch-Ignite", "both": "one of each"}


@dataclass(frozen=True)
class Row:
    """An answer, how far it speaks for each framework, and why; the first of a question is its default."""

    value: str
    label: str
    lightning: int = 0
    ignite: int = 0
    reason: str = ""
    brings: Mapping[str, str] = field(default_factory=dict)  # answers for `mlscaffold new`


WEIGHTS: dict[tuple[str, str], list[Row]] = {
    ("data", "What does it learn from?"): [
        Row("images", "Images"),
        Row("texts", "Texts that have classes", brings={"task": "text-classification"}),
        Row("language", "Texts to continue", brings={"task": "language-modeling"}),
        Row("tables", "Rows of a table", brings={"task": "tabular"}),
        Row("masks", "Images, and which pixels are what", brings={"task": "segmentation"}),
        Row("examples", "Images of what it is to make", brings={"task": "image-generation"}),
    ],
    ("step", "Will you write the training step yourself?"): [
        Row("unsure", "Not known yet"),
        Row(
            "standard",
            "No: one model, one loss, one optimizer",
            lightning=2,
            reason="The Trainer has the loop, accumulation and mixed precision around a step of a few lines.",
        ),
        Row(
            "own",
            "Yes, from the batch to the optimizer",
            ignite=2,
            reason="The whole step, from the batch to the optimizer, is a function in engine.py.",
        ),
    ],
    ("code", "What is there already?"): [
        Row("nothing", "Nothing yet"),
        Row(
            "loop",
            "A loop in plain PyTorch",
            ignite=2,
            reason="The body of a hand-written loop becomes an Ignite step as it is.",
        ),
        Row("lightning", "LightningModules", lightning=3, reason="LightningModules that exist keep working."),
        Row("ignite", "Ignite engines", ignite=3, reason="Engines and handlers that exist keep working."),
    ],
    ("moments", "When does something else happen during training?"): [
        Row("unsure", "Not known yet"),
        Row(
            "epochs",
            "At the ends of epochs: validate, save, stop early",
            lightning=1,
            reason="Lightning has callbacks for what happens at the end of an epoch.",
        ),
        Row(
            "events",
            "At moments of your own: every 500 steps, once, on a condition",
            ignite=2,
            reason="Ignite's events take filters (every, once, event_filter), and you can add events.",
        ),
    ],
    ("team", "Who reads the code?"): [
        Row("unsure", "Not known yet"),
        Row(
            "many",
            "Several people, several projects",
            lightning=2,
            reason="Every LightningModule has the same methods, so people find their way in any project.",
        ),
        Row(
            "few",
            "A few who want every line in view",
            ignite=1,
            reason="With Ignite nothing runs that the code does not call or attach.",
        ),
    ],
    ("scale", "Where does it train?"): [
        Row("one", "On one device"),
        Row("several", "On several, the model fits on each", brings={"strategy": "ddp"}),
        Row(
            "sharded",
            "On several, the model fits on none",
            brings={"strategy": "fsdp"},
        ),
    ],
    ("parts", "Has it parts of different kinds?"): [
        Row("one", "No, one kind of training"),
        Row(
            "both",
            "Yes, say a product and an experiment",
            reason="Each part can have its own: data, model, objective and optimizer are the same files in "
            "both, and best.pt of one loads in the other.",
        ),
    ],
}


@dataclass(frozen=True)
class Advice:
    task: str
    take: str  # a framework, or "both"
    scores: dict[str, int]
    reasons: dict[str, list[str]]  # for each framework, and for "both"
    commands: list[str]


def questions() -> Catalogue:
    """The questions as a catalogue, so that flags and prompts work as those of `new` do."""
    made = (
        Question(name, text, "str", rows[0].value, tuple(Choice(row.value, row.label) for row in rows))
        for (name, text), rows in WEIGHTS.items()
    )
    return Catalogue(Path(), {}, tuple(made))


def choose(catalogue: Catalogue, flags: Answers, *, as_json: bool, weights: bool) -> None:
    """Ask on a terminal what no flag said, and print what to take and why; or print the table of weights."""
    if weights:
        print(as_markdown(), end="")
        return
    given = Given(questions())
    given.add(flags, lambda name: flag_name(given.catalogue[name]))
    given.check()
    if not as_json and can_ask():
        from mlscaffold.catalogue.prompts import ask

        ask(given)
    answers = given.catalogue.resolve(given.answers)
    found = advise(catalogue, answers)
    if as_json:
        print(json.dumps({"answers": answers, **vars(found)}, indent=2))
    else:
        _print(found, catalogue["task"])


def advise(catalogue: Catalogue, answers: Answers) -> Advice:
    """Add up the weights; a tie goes to the default of `mlscaffold new`, and two kinds of parts to both."""
    rows = [row for (name, _), rows in WEIGHTS.items() for row in rows if row.value == answers[name]]
    scores = {name: sum(getattr(row, name) for row in rows) for name in FRAMEWORKS}
    reasons = {name: [row.reason for row in rows if getattr(row, name)] for name in FRAMEWORKS}
    reasons["both"] = [row.reason for row in rows if row.value == "both"]
    default = str(catalogue["framework"].default)
    best = max(FRAMEWORKS, key=lambda name: (scores[name], name == default))
    take = "both" if reasons["both"] else best
    brings = {name: value for row in rows for name, value in row.brings.items()}
    commands = [
        _command(catalogue, {"framework": name, "because": " ".join(reasons[name]), **brings})
        for name in (FRAMEWORKS if take == "both" else (take,))
    ]
    return Advice(str(brings.get("task", catalogue["task"].default)), take, scores, reasons, commands)


def as_markdown() -> str:
    """Write the table of weights: what each answer adds for each framework, and why."""
    lines = [
        "`mlscaffold choose` adds up what the answers weigh; where both weigh the same, it names the default."
    ]
    for (name, text), rows in WEIGHTS.items():
        head = f"| `--{name}` | | Lightning | Ignite | Because |"
        lines += ["", f"## {text}", "", head, "|---|---|---:|---:|---|"]
        for row in rows:
            weights = f"{row.lightning or ''} | {row.ignite or ''}"
            lines.append(f"| `{row.value}` | {row.label} | {weights} | {row.reason} |")
    return "\n".join([*lines, ""])


def _command(catalogue: Catalogue, wanted: Mapping[str, Answer]) -> str:
    words = [f"my-{wanted['framework']}-project"]
    for question in catalogue.questions:
        answer = wanted.get(question.name)
        if answer and (not question.values or answer in question.values):
            words += flag_words(question, answer)
    return shlex.join(["mlscaffold", "new", *words])


def _print(advice: Advice, tasks: Question) -> None:
    lightning, ignite = advice.scores.values()
    scores = f"{TITLES['lightning']} {lightning}, {TITLES['ignite']} {ignite}"
    verdict = f"Take {TITLES[advice.take]} ({scores})."
    if lightning == ignite and advice.take != "both":
        speaks = (
            f"As much speaks for one as for the other ({scores})"
            if lightning
            else "Nothing speaks for either"
        )
        verdict = f"{speaks}. The default is {TITLES[advice.take]}."
    print(fold(verdict))
    [task] = [choice.label for choice in tasks.choices if choice.value == advice.task]
    print(f"The task is {task[0].lower()}{task[1:]}.")
    for name in sorted(advice.reasons, key=lambda name: name != advice.take):
        if advice.reasons[name]:
            print(
                f"\nFor {TITLES[name]}:",
                *(fold(text, "    ", "  - ") for text in advice.reasons[name]),
                sep="\n",
            )
    print("\nTo begin:", *advice.commands, sep="\n  ")
