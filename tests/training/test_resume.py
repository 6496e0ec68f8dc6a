"""A run that ends in any way goes on as if it had not ended, and nothing that was saved is lost."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, cycle, islice, product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from mlscaffold.catalogue.questions import Answers
from tests.conftest import Say
from tests.support import forks
from tests.support.projects import (
    FRAMEWORKS,
    GAN,
    PARALLEL,
    SOAK,
    STRATEGIES,
    Project,
    by_framework,
    rendered,
    times,
    write,
)
from tests.support.proofs import once
from tests.support.releases import ROOT

APART = ("task", "framework", "strategy")  # share nothing, so they may run in several processes
Harm = dict[str, str | float]
EXIT_CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 75}
STEPS = 56
EPOCH_ENDS = [14, 28, 42, 56]  # the last step of each is on one batch or two, others on three
COMMON = ["--epochs", "4", "--log_every", "3", "--num_threads", "1", "--optim.accumulate", "3"]
COMMON += ["--model.width", "4", "--ema_decay", "0.9"]
DROPOUT = ["--model.dropout", "0.2"]
# Of each task: samples of a batch of all processes, of which an epoch has 40 or 41.
TAKEN = {
    "image-classification": 32,
    "tabular": 10,
    "text-classification": 132,
    "language-modeling": 8,
    "segmentation": 6,
    "image-generation": 32,
    "gan": 32,
}
IMAGES, TABLES, TEXTS, LANGUAGE, MASKS, MADE, PAIRS = TAKEN
WORDS = "made.txt"  # whose blocks are in all three splits
OWN = {
    TEXTS: ["--model.buckets", "512"],
    LANGUAGE: [
        *("--data.path", WORDS, "--data.vocabulary", "300", "--data.window", "16", "--data.epoch", "0.17"),
        *("--model.depth", "1"),
    ],
    MASKS: ["--model.depth", "2"],
    MADE: ["--data.repeat", "1", "--model.depth", "1", "--model.steps", "2"],
    PAIRS: ["--model.depth", "1"],
}
PHASES = {PAIRS: 2}  # of a step, where there are several
# After which runs end in `make test`; 28 ends an epoch.
STEPS_OF = {
    IMAGES: [1, 8, 14, 27, 20, 56],
    TABLES: [5, 28, 41],
    TEXTS: [27],
    LANGUAGE: [41],
    MASKS: [28],
    MADE: [27],
    PAIRS: [27],
}
VARIANTS = [
    ["--optim.schedule", "onecycle", "--validate_every", "5"],
    ["--optim.schedule", "cosine", "--precision", "fp16", "--save_every", "4"],
    ["--optim.schedule", "plateau", "--data.num_workers", "2"],
    ["--precision", "bf16", "--optim.grad_clip", "0", "--validate_every", "9", "--save_every", "5"],
]
MOST_S = 150  # of a run, on a busy machine
LONGEST_S = 10  # from a signal to one process to the end of all


@dataclass(frozen=True)
class Ended:
    """How a run ended: the exit codes by rank, and how long after the signal."""

    codes: list[int | None]
    seconds: float | None


@dataclass(frozen=True)
class Forked:
    """A project whose runs are forks that come to harm: see `harmed_run`."""

    folder: Path
    ranks: int
    task: str = IMAGES
    holder: int = 0  # a process whose disks the runs see

    def train(self, run: str, settings: list[str], **harm: str | float) -> Ended:
        """Train into a folder, or go on there.

        `harm` names the process, the `rank`, that gets a `signal`, and when: see `harmed_run`; or `after_s`.
        With `pause_s`, a save that failed is tried again after that time only.
        """
        if harm.get("where") == "step":
            harm["at"] = int(harm["at"]) * PHASES.get(self.task, 1)
        with tempfile.TemporaryDirectory() as notes:
            return self._train(self.arguments(run, settings), harm, Path(notes, "came"))

    def arguments(self, run: str, settings: list[str]) -> list[str]:
        arguments = [*COMMON, *([] if self.task == PAIRS else DROPOUT), *OWN.get(self.task, []), *settings]
        arguments += ["--data.batch_size", str(TAKEN[self.task] // self.ranks)]
        return [*arguments, "--out_dir", f"runs/{run}", "--resume", "auto"]

    def start(
        self, arguments: list[str], harm: Mapping[str, str | float], came: Path
    ) -> tuple[object, list[forks.Fork]]:
        """The processes of a run, and the store where they meet, which is to be kept until they end."""
        store, environments = forks.rendezvous(self.ranks) if self.ranks > 1 else (None, [{}])
        settings, log = Project(self.folder, "my_project").settings, self.folder / "log.txt"
        program = ("-m", "tests.support.harmed_run", "my_project")
        job = json.dumps({**harm, "came": str(came), "namespaces": self.holder})
        return store, [
            forks.start((*program, job, *arguments), self.inside, settings | own, log, log)
            for own in environments
        ]

    def _train(self, arguments: list[str], harm: Mapping[str, str | float], came: Path) -> Ended:
        store, running = self.start(arguments, harm, came)
        if "after_s" in harm:
            time.sleep(float(harm["after_s"]))
            with suppress(ProcessLookupError):
                os.kill(running[int(harm["rank"])].pid, getattr(signal, str(harm["signal"])))
            came.touch()
        codes = [self._code(fork) for fork in running]
        del store  # they have ended
        return Ended(codes, time.time() - came.stat().st_mtime if came.exists() else None)

    @staticmethod
    def _code(fork: forks.Fork) -> int | None:
        try:
            return fork.wait(MOST_S)
        except TimeoutError:
            fork.kill()
            return None

    @property
    def inside(self) -> Path:
        """The project's folder as its runs see it."""
        return Path("/", *self.folder.parts[4:]) if self.holder else self.folder

    def go_on(self, run: str, settings: list[str]) -> None:
        """Train from the newest checkpoint to the end."""
        assert self.train(run, settings).codes == [0] * self.ranks, self.said()

    def run(self, name: str) -> Path:
        return self.folder / "runs" / name

    def checkpoints(self, run: str) -> list[int]:
        """The steps of the checkpoints of a run."""
        paths = (self.run(run) / "checkpoints").glob("step-*.pt")
        return sorted(int(path.stem.removeprefix("step-")) for path in paths)

    def end(self, run: str) -> dict[str, str]:
        """Hashes of what a run ended with: its metrics, its best weights, and its last state."""
        folder = self.run(run)
        state = torch.load(folder / f"checkpoints/step-{STEPS:08d}.pt", weights_only=True)
        del state["versions"]  # of the framework, too
        texts = {name: (folder / name).read_text() for name in ("metrics.csv", "best.json")}
        weights = torch.load(folder / "best.pt", weights_only=True)
        texts |= {"best.pt": flat(weights), "state": flat(state)}
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}

    def said(self) -> str:
        return (self.folder / "log.txt").read_text()[-3000:]


def flat(state: object) -> str:
    """Everything in a state, to the bit."""
    if isinstance(state, dict):
        return "".join(f"{key}:{flat(value)}" for key, value in state.items())
    if isinstance(state, list | tuple):
        return "".join(map(flat, state))
    return str((state.dtype, state.tolist()) if isinstance(state, torch.Tensor) else state)


GetForked = Callable[[str, str, str], Forked]


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> GetForked:
    """A project of a task, a framework and a strategy."""

    @once
    def make(task: str, framework: str, strategy: str) -> Forked:
        folder = write_project(task, framework, strategy, tmp_path_factory.mktemp(task))
        return Forked(folder, 1 if strategy == "single" else 2, task)

    return make


def write_project(task: str, framework: str, strategy: str, folder: Path) -> Path:
    """Write a project, and the texts that a language model learns here."""
    if task == LANGUAGE:
        chance = random.Random(0)
        words = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 8))) for _ in range(100)]
        (folder / WORDS).write_text(" ".join(chance.choices(words, k=9000)))
    return write(rendered(answers(task, framework, strategy)), folder)


def answers(task: str, framework: str, strategy: str) -> Answers:
    own = GAN if task == PAIRS else {"task": task}
    return {**own, "framework": framework, "strategy": strategy, "loggers": []}


class Case(NamedTuple):
    """What a promise is kept in."""

    task: str
    framework: str
    strategy: str


def by_case(
    *rows: int, among: Callable[[Case], bool], strategies: Sequence[str] = STRATEGIES
) -> pytest.MarkDecorator:
    """Run a test in each case in `make soak`, and in those `among` them in `make test`.

    It shows these rows of the table of techniques in docs/coverage.md.
    """
    cases = []
    for case in map(Case._make, product(TAKEN, FRAMEWORKS, strategies)):
        marks = [pytest.mark.soak, *(pytest.mark.row(row, case.framework) for row in rows)]
        if not among(case) or case.task == PAIRS:  # which test_losses.py resumes in all of these
            marks.append(pytest.mark.skipif(not SOAK, reason="make soak"))
        cases.append(pytest.param(*case, marks=marks))
    return pytest.mark.parametrize(Case._fields, cases)


def alone(case: Case) -> bool:
    return case.strategy == "single"


def alone_in_images(case: Case) -> bool:
    return alone(case) and case.task == IMAGES


def alone_once(case: Case) -> bool:
    """Images with each framework, other tasks with one of them."""
    return alone(case) and (case.task == IMAGES or case.framework == FRAMEWORKS[case.task != LANGUAGE])


def crossed(case: Case) -> bool:
    """Each framework with each strategy, in one of two tasks, and in one of the two on texts."""
    second = case.task in (TABLES, LANGUAGE)
    odd = (second + (case.framework == FRAMEWORKS[0]) + (case.strategy == "fsdp")) % 2 == 1
    return odd and case.task != MASKS  # which test_losses.py resumes in all of these


def variant_of(task: str, number: int) -> int:
    """The settings of a run; tasks that meet few in `make test` begin with other ones."""
    return (number + {TEXTS: 2, LANGUAGE: 3, MASKS: 1}.get(task, 0)) % len(VARIANTS)


@once
def whole(project: Forked, variant: int) -> dict[str, str]:
    """What a run ends with that nothing disturbs."""
    project.go_on(f"whole-{variant}", VARIANTS[variant])
    return project.end(f"whole-{variant}")


def check_end(project: Forked, run: str, variant: int, about: object) -> None:
    """A run ended like one that nothing disturbed; it is deleted."""
    assert project.end(run) == whole(project, variant), (about, VARIANTS[variant], project.said())
    shutil.rmtree(project.run(run))


@by_case(4, among=alone)
@pytest.mark.timeout(6000)
def test_a_run_that_ends_after_any_step_goes_on_to_the_same_end(
    forked: GetForked, task: str, framework: str, strategy: str, say: Say
) -> None:
    project = forked(task, framework, strategy)
    steps = list(range(1, STEPS + 1)) if SOAK else STEPS_OF[task]
    for number, step in enumerate(steps):
        variant, run = variant_of(task, number), f"step-{step}"
        harm: Harm = {"where": "step", "at": step, "signal": "SIGUSR1", "rank": number % project.ranks}
        assert project.train(run, VARIANTS[variant], **harm).codes == [75] * project.ranks, project.said()
        assert project.checkpoints(run)[-1] in range(step, step + project.ranks)
        project.go_on(run, VARIANTS[variant])
        check_end(project, run, variant, step)
    say(f"R1 {task} {framework} {strategy}: resumed from {len(steps)} of {STEPS} steps, all to the same end")


@by_case(4, 5, 8, among=crossed, strategies=PARALLEL)
@pytest.mark.timeout(6000)
def test_two_processes_end_together_when_one_gets_a_signal_and_go_on_to_the_same_end(
    forked: GetForked, task: str, framework: str, strategy: str, say: Say
) -> None:
    project = forked(task, framework, strategy)
    steps = [1, 7, 13, 20, *EPOCH_ENDS, 27, 35, 43, 49] if SOAK else [7, 14]
    ends = list(islice(zip(cycle(steps), cycle([*EXIT_CODES.items(), ("SIGUSR1", 75)])), times(1, 30)))
    slowest = 0.0
    for number, (step, (name, code)) in enumerate(ends):
        variant, run = variant_of(task, number), f"one-{number}"
        harm: Harm = {"where": "step", "at": step, "signal": name, "rank": number % 2}
        ended = project.train(run, VARIANTS[variant], **harm)
        assert ended.codes == [code] * 2, (harm, project.said())
        assert ended.seconds is not None
        assert ended.seconds < LONGEST_S, harm
        slowest = max(slowest, ended.seconds)
        assert project.checkpoints(run)[-1] in (step, step + 1)  # the processes agree while they train
        project.go_on(run, VARIANTS[variant])
        check_end(project, run, variant, harm)
    say(
        f"R1, R4 {task} {framework} {strategy}: one of two processes got {len(ends)} signals at {len(steps)}"
        f" steps; both ended in {slowest:.1f} s at most and went on to the same end"
    )


@by_framework(4)
@pytest.mark.timeout(1200)
def test_a_run_that_another_framework_began_goes_on_to_the_same_end(
    forked: GetForked, framework: str, say: Say
) -> None:
    project = forked(IMAGES, framework, "single")
    for variant, other in enumerate(name for name in FRAMEWORKS if name != framework):
        began, run = forked(IMAGES, other, "single"), f"from-{other}"
        harm: Harm = {"where": "step", "at": 20, "signal": "SIGUSR1", "rank": 0}
        assert began.train(run, VARIANTS[variant], **harm).codes == [75], began.said()
        project.run(run).parent.mkdir(exist_ok=True)
        began.run(run).rename(project.run(run))
        project.go_on(run, VARIANTS[variant])
        check_end(project, run, variant, other)
        say(f"R1 {framework}: went on from step 20 of a run of {other} to the same end")


@by_framework(3, 5)
def test_a_run_that_was_stopped_early_is_over_whatever_came_before_its_end(
    forked: GetForked, framework: str
) -> None:
    project, learns_nothing = forked(IMAGES, framework, "single"), ["--optim.lr", "1e-9", "--patience", "2"]
    project.go_on("early", learns_nothing)
    harm: Harm = {"where": "validation", "at": 1 + 2 * 8 + 4, "signal": "SIGUSR1", "rank": 0}
    assert project.train("ended", learns_nothing, **harm).codes == [75]
    assert "finished" not in (project.run("ended") / "run.json").read_text()
    project.go_on("ended", learns_nothing)
    assert project.checkpoints("ended") == project.checkpoints("early") == [28, 42]  # of three epochs
    for name in ("early", "ended"):
        run = json.loads((project.run(name) / "run.json").read_text())
        assert run["finished"] == STEPS
        assert run["ended"] == "stopped early: no better val/accuracy in 2 validations"
    metrics = [(project.run(name) / "metrics.csv").read_text() for name in ("early", "ended")]
    assert metrics[0] == metrics[1]
    project.go_on("early", [*learns_nothing, "--epochs", "8"])  # for more it has all of its patience again
    assert project.checkpoints("early") == [56, 70]


@by_case(5, among=lambda case: alone_once(case) and case.task not in OWN)
@pytest.mark.timeout(6000)
def test_a_signal_in_a_step_a_validation_or_a_save_ends_in_its_code_with_the_state_saved(
    forked: GetForked, task: str, framework: str, strategy: str, say: Say
) -> None:
    project, chance, number = forked(task, framework, strategy), random.Random(1), times(3, 50)
    places = {"step": (1, STEPS), "validation": (1, 16), "save": (7, 20)}  # those before are no state's
    for i, (where, (name, code)) in enumerate(islice(zip(cycle(places), cycle(EXIT_CODES.items())), number)):
        rank = i % project.ranks if where != "save" else 0  # which saves for all
        harm: Harm = {"where": where, "at": chance.randint(*places[where]), "signal": name, "rank": rank}
        run = f"signal-{i}"
        assert project.train(run, VARIANTS[0], **harm).codes == [code] * project.ranks, (harm, project.said())
        assert project.checkpoints(run)
        if where == "step":
            assert project.checkpoints(run)[-1] - int(harm["at"]) in range(project.ranks)
        project.go_on(run, VARIANTS[0])
        check_end(project, run, 0, harm)
    case = f"{task} {framework} {strategy}"
    say(f"R3 {case}: {number} signals, {number} saves and right exit codes; all went on to the same end")


@by_case(4, 5, among=alone_once)
@pytest.mark.timeout(6000)
def test_a_run_that_is_killed_anywhere_ends_as_one_that_was_not(
    forked: GetForked, task: str, framework: str, strategy: str, say: Say
) -> None:
    """In several processes one of them is killed; the others find out and end, too."""
    project, chance = forked(task, framework, strategy), random.Random(2)
    number = times(1 if task in OWN else 4, 100)
    begin = time.monotonic()
    project.go_on("timed", VARIANTS[0])
    seconds = time.monotonic() - begin
    killed = dict.fromkeys(("save", "anywhere"), 0)
    for i in count():
        if sum(killed.values()) == number:
            break
        if i % 2 == 0:
            harm: Harm = {"where": "save", "at": chance.randint(1, 25), "rank": 0}
        else:
            harm = {"after_s": chance.uniform(0, 0.9 * seconds), "rank": i // 2 % project.ranks}
        variant = i // 2 % 2
        codes = project.train(f"killed-{i}", VARIANTS[variant], signal="SIGKILL", **harm).codes
        assert None not in codes, project.said()
        assert codes[int(harm["rank"])] in (-9, 0), project.said()
        killed["anywhere" if i % 2 else "save"] += -9 in codes
        project.go_on(f"killed-{i}", VARIANTS[variant])
        check_end(project, f"killed-{i}", variant, harm)
        assert i < 2 * number, "most runs ended before they were to be killed"
    said = ", ".join(f"{kills} {where}" for where, kills in killed.items())
    case = f"{task} {framework} {strategy}"
    say(f"R2 {case}: killed {number} times ({said}); all {i} runs went on to the same end")
    assert killed["save"] >= 0.2 * number


@by_case(4, 5, among=alone_in_images)
@pytest.mark.timeout(6000)
def test_every_damage_to_the_newest_checkpoint_is_found_and_the_one_before_used(
    forked: GetForked, task: str, framework: str, strategy: str, say: Say
) -> None:
    project, number = forked(task, framework, strategy), times(100, 1000)
    project.train("damaged", VARIANTS[0], where="step", at=27, signal="SIGUSR1", rank=0)
    before, newest = project.checkpoints("damaged")
    assert before == 25
    script = (ROOT / "tests/support/damaged_checkpoints.py", "my_project", "runs/damaged", str(number))
    said: dict[str, Any] = json.loads(
        Project(project.folder, "my_project").run_fork(*script).splitlines()[-1]
    )
    assert sum(said["found"].values()) + said["harmless"] == number, said
    project.go_on("damaged", VARIANTS[0])  # from step 25, as the last damage is still there
    assert f"step-{newest:08d}.pt: this checkpoint is damaged" in project.said()
    check_end(project, "damaged", 0, said)
    harmless, case = (
        f"{said['harmless']} of manifests where nothing is read",
        f"{task} {framework} {strategy}",
    )
    say(f"R5 {case}: of {number} damages all were found, but for {harmless}: {said['found']}")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux")
@by_case(5, among=alone_in_images)
@pytest.mark.timeout(6000)
def test_a_full_disk_loses_nothing_that_was_saved(
    task: str, framework: str, strategy: str, tmp_path: Path, say: Say
) -> None:
    """A run goes on from step 27 on a disk without room for another checkpoint; then there is room again."""
    folder = write_project(task, framework, strategy, tmp_path)
    (folder / "runs").mkdir()
    script = f"mount -t tmpfs -o size=8m tmpfs {folder}/runs && echo there && exec sleep 6000"
    command = ("unshare", "--map-root-user", "--mount", "bash", "-c", script)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        if not holder.stdout.readline():
            pytest.skip("no file system of one's own here")
        try:
            inside, ranks = Path(f"/proc/{holder.pid}/root{folder}"), 1 if strategy == "single" else 2
            number = lose_nothing(Forked(inside, ranks, task, holder.pid))
        finally:
            holder.kill()
    case = f"{task} {framework} {strategy}"
    say(f"R6 {case}: the disk was full {number} times; what was saved before was there, and went on")


def lose_nothing(project: Forked) -> int:
    """Fill the disk some times, and return how often."""
    project.train("half", VARIANTS[0], where="step", at=27, signal="SIGUSR1", rank=0)
    chance, number = random.Random(3), times(4, 20)
    newest = max((project.run("half") / "checkpoints").glob("step-*.pt"))
    size = newest.stat().st_size
    for i in range(number):
        full = project.run(f"full-{i}")
        shutil.copytree(project.run("half"), full)
        before = {path.name: path.read_bytes() for path in (full / "checkpoints").iterdir()}
        fill(project.folder / "runs", free=chance.randrange(size))
        ended = project.train(full.name, VARIANTS[0], rank=0, pause_s=0.01)
        assert ended.codes == [1] * project.ranks, project.said()
        assert "Traceback" not in project.said(), project.said()
        after = {path.name: path.read_bytes() for path in (full / "checkpoints").iterdir()}
        assert after == before
        assert not list(full.rglob("*.tmp"))
        (project.folder / "runs/ballast").unlink()
        project.go_on(full.name, VARIANTS[0])
        check_end(project, full.name, 0, i)
    return number


def fill(folder: Path, free: int) -> None:
    """Write to a disk until only so many bytes are free."""
    room = shutil.disk_usage(folder).free - free
    (folder / "ballast").write_bytes(bytes(max(0, room)))
