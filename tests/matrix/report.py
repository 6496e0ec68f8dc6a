"""What a run of the matrix has to say: its failures, and the table of docs/matrix.md."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from platform import python_version

VERSIONS = (
    "torch",
    "pytorch-lightning",
    "pytorch-ignite",
    "tensorboard",
    "mlflow",
    "wandb",
    "optuna",
    "onnxruntime",
    "fastapi",
    "litserve",
    "copier",
    "mypy",
    "ruff",
)


@dataclass(frozen=True)
class Failure:
    stage: str
    combination: str
    reason: str


@dataclass
class Stage:
    """A row of the table."""

    name: str
    combinations: int = 0
    programs: int = 0
    runs: int = 0
    not_run: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class Report:
    """What was seen."""

    device: str
    combinations: int
    stages: list[Stage] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    rates: list[tuple[str, int, int, float]] = field(default_factory=list)
    parts: list[tuple[str, int, int, float]] = field(default_factory=list)
    not_run: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    seconds: float = 0.0
    import_seconds: float = 0.0

    def table(self) -> str:
        """A page of Markdown."""
        failed: dict[str, set[str]] = defaultdict(set)
        for failure in self.failures:
            failed[failure.stage].add(failure.combination)
        lines = [
            "# The matrix",
            "",
            "Written by `make matrix`; do not edit. Every combination of answers is generated, compared with",
            "what Copier writes, checked, trained, stopped, resumed, and used as its answers allow.",
            "Combinations that share a program, by the contents of all that it imports and its settings,",
            "share the run of it.",
            "",
            f"**{self.combinations - len({f.combination for f in self.failures})} of {self.combinations}"
            f" combinations pass** on {self.device}, in {self.seconds / 60:.1f} minutes.",
            "",
            "| stage | combinations | programs | processes | failed | not run | seconds | computing |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for stage in self.stages:
            lines.append(
                f"| {stage.name} | {stage.combinations} | {stage.programs} | {stage.runs} |"
                f" {len(failed[stage.name])} | {stage.not_run} | {stage.seconds:.0f} |"
                f" {stage.cpu_seconds:.0f} |"
            )
        lines += [
            "",
            "Programs are distinct. Seconds are those of the clock; computing adds up all processors.",
            "",
        ]
        if self.parts:
            lines += ["| of the runs | distinct programs | processes | computing |", "|---|--:|--:|--:|"]
            lines += [f"| {name} | {n} | {runs} | {seconds:.0f} |" for name, n, runs, seconds in self.parts]
            lines.append("")
        if self.rates:
            lines += ["| trained and resumed | combinations | distinct programs | combinations a minute |"]
            lines += ["|---|--:|--:|--:|"]
            for name, combinations, programs, seconds in self.rates:
                lines.append(f"| {name} | {combinations} | {programs} | {combinations / seconds * 60:.0f} |")
            lines.append("")
        for why, who in self.not_run.items():
            lines += [f"Not run, as it {why}: {len(who)} combinations.", ""]
        known = [f"{name} {version(name)}" for name in VERSIONS]
        lines += [f"Python {python_version()}, {', '.join(known)}.", ""]
        return "\n".join(lines)

    def complaints(self, most: int = 8) -> str:
        """Each failure once: who has it, the command that shows it alone, and the end of its log."""
        together: dict[tuple[str, str], list[str]] = defaultdict(list)
        for failure in self.failures:
            together[failure.stage, failure.reason].append(failure.combination)
        return "\n\n".join(
            _complaint(stage, reason, who, most, self.device) for (stage, reason), who in together.items()
        )


def _complaint(stage: str, reason: str, who: Sequence[str], most: int, device: str) -> str:
    names = [f"  {name}" for name in who[:most]]
    names += [f"  and {len(who) - most} more"] if len(who) > most else []
    more = f" --device {device}" if device != "cpu" else ""
    command = f'python -m tests.matrix{more} --only "{who[0]}"'
    return "\n".join(
        [f"FAILED {stage}: {len(who)} combinations", *names, f"again: {command}", *_indented(reason)]
    )


def _indented(text: str) -> list[str]:
    return [f"  | {line}" for line in text.splitlines()]
