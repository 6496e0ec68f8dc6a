"""Recommend Lightning, Ignite, or one of each, from what a project is like."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlscaffold.answers import Given
from mlscaffold.catalogue import Answer, Answers, Catalogue, Choice, Question
from mlscaffold.flags import flag_name, flag_words
from mlscaffold.terminal import can_ask

FRAMEWORKS = ("lightning", "ignite")


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
    ("step", "What does a training step do?"): [
        Row("unsure", "Not known yet"),
        Row(
            "standard",
            "One model, one loss, one optimizer",
            lightning=2,
            reason="Lightning brings clipping, accumulation and mixed precision for a standard step.",
        ),
        Row(
            "alternating",
            "Several models or optimizers take turns",
            ignite=2,
            reason="An Ignite step is a function that calls the optimizers in your order; in Lightning it is "
            "manual optimization, without its clipping and accumulation.",
        ),
        Row(
            "own",
            "Something of its own: loops in loops, a simulation in between",
            ignite=3,
            reason="Ignite engines run inside each other's handlers; Lightning 2 has one loop, its own.",
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
            lightning=2,
            reason="Lightning's Trainer carries sharded strategies; with Ignite sharding is code of yours.",
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
        from mlscaffold.prompts import ask

        ask(given)
    answers = given.catalogue.resolve(given.answers)
    found = advise(catalogue, answers)
    if as_json:
        print(json.dumps({"answers": answers, **vars(found)}, indent=2))
    else:
        _print(found)


def advise(catalogue: Catalogue, answers: Answers) -> Advice:
    """Add up the weights; a tie goes to Lightning, and two kinds of parts to both."""
    rows = [row for (name, _), rows in WEIGHTS.items() for row in rows if row.value == answers[name]]
    scores = {name: sum(getattr(row, name) for row in rows) for name in FRAMEWORKS}
    reasons = {name: [row.reason for row in rows if getattr(row, name)] for name in FRAMEWORKS}
    reasons["both"] = [row.reason for row in rows if row.value == "both"]
    if scores["lightning"] == scores["ignite"]:
        reasons["lightning"].append("Where both suit a project, Lightning needs less code.")
    take = "both" if reasons["both"] else max(FRAMEWORKS, key=lambda name: scores[name])
    brings = {name: value for row in rows for name, value in row.brings.items()}
    commands = [
        _command(catalogue, {"framework": name, "because": " ".join(reasons[name]), **brings})
        for name in (FRAMEWORKS if take == "both" else (take,))
    ]
    return Advice(take, scores, reasons, commands)


def as_markdown() -> str:
    """Write the table of weights: what each answer adds for each framework, and why."""
    lines = [
        "`mlscaffold choose` adds up what the answers weigh; where both weigh the same, it takes Lightning."
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


def _print(advice: Advice) -> None:
    titles = {"lightning": "PyTorch Lightning", "ignite": "PyTorch-Ignite", "both": "one of each"}
    scores = ", ".join(f"{titles[name]} {score}" for name, score in advice.scores.items())
    print(f"Take {titles[advice.take]} ({scores}).")
    for name in sorted(advice.reasons, key=lambda name: name != advice.take):
        if advice.reasons[name]:
            print(f"\nFor {titles[name]}:", *advice.reasons[name], sep="\n  - ")
    print("\nTo begin:", *advice.commands, sep="\n  ")
