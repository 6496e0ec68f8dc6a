"""A run of the matrix, from the catalogue to the table."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlscaffold.catalogue.questions import Answers
from tests.matrix import check, cold, generate, inside
from tests.matrix.generate import Problems
from tests.matrix.plan import catalogue_of, named, project_of, ruled_out
from tests.matrix.pool import STAGE, Pool
from tests.matrix.programs import Programs
from tests.matrix.report import Failure, Report, Stage
from tests.matrix.run import NotRunError, Runner, stages
from tests.support.projects import Rendered, write
from tests.support.releases import ROOT

SAMPLE = 24  # combinations that go through Copier's public function too, and at most one of ten
MYPY_CACHE = ROOT / ".mypy_cache/generated"  # what it learnt of torch holds until torch changes
SLOW_DISK_S = 0.02  # that the first of several processes waits for each file
CHUNKS = 8  # in which combinations are shared out to forks

Progress = Callable[[str, int, int], None]  # the stage, how many are done, of how many
Named = list[tuple[str, Rendered]]


@dataclass
class Session:
    """Proves some combinations of one template."""

    answers: Sequence[Answers]
    folder: Path
    device: str = "cpu"
    root: Path = ROOT
    whole: bool = True  # or a sample, without the cold set
    proven: frozenset[str] = frozenset()  # combinations whose runs need not be repeated
    slow_disk_s: float = SLOW_DISK_S
    progress: Progress = lambda *_: None
    tell: Callable[[Failure], None] = lambda _: None  # of a failure at once: what follows may take long
    slots: int = field(default_factory=lambda: 2 * (os.cpu_count() or 1) + 1)  # a search waits for its trials

    def __post_init__(self) -> None:
        self.report = Report(self.device, len(self.answers))
        self.projects: Named = [(named(each), project_of(each, self.root)) for each in self.answers]
        self.pool = Pool(self.folder / "forks", self.slots, self.device)
        self.programs = Programs()

    async def __call__(self) -> Report:
        begin = time.monotonic()
        [gpus] = await self.pool(inside.num_gpus)
        self.report.import_seconds = time.monotonic() - begin
        await asyncio.gather(self.generate(), self.check(), self.run(gpus))
        if self.whole:
            await self.start_cold()
        self.report.seconds = time.monotonic() - begin
        return self.report

    @property
    def open(self) -> Named:
        return [(name, project) for name, project in self.projects if name not in self.proven]

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        row = Stage(name, len(self.projects))
        self.report.stages.append(row)
        begin, token = time.monotonic(), STAGE.set(name)
        yield row
        STAGE.reset(token)
        row.seconds = time.monotonic() - begin
        row.runs, row.cpu_seconds = self.pool.used(name)

    def failed(self, stage: str, problems: Problems) -> None:
        failures = [Failure(stage, name, reason) for name, reason in problems.items()]
        self.report.failures += failures
        for failure in failures:
            self.tell(failure)

    async def share(self, stage: str, jobs: Sequence[Awaitable[list[Problems]]]) -> None:
        """Wait for jobs that look at several combinations each."""
        for done, job in enumerate(asyncio.as_completed(jobs), start=1):
            for problems in await job:
                self.failed(stage, problems)
            self.progress(stage, done, len(jobs))

    async def generate(self) -> None:
        with self.stage("generate") as row:
            row.programs = len(self.projects)
            place = self.folder / "template"
            place.mkdir(parents=True)
            clone = generate.clone_of_working_tree(place)
            sample = self.answers[:: max(10, len(self.answers) // SAMPLE)]
            jobs = [self.pool(generate.compare_with_copier, clone, part) for part in chunks(self.answers)]
            jobs.append(self.pool(generate.compare_with_run_copy, clone, sample))
            refused = list(ruled_out(catalogue_of(self.root)))
            jobs.append(self.pool(generate.taken_all_the_same, clone, refused))
            await self.share("generate", jobs)

    async def check(self) -> None:
        with self.stage("check") as row:
            row.programs = len({(n, t) for _, project in self.projects for n, t in project.files.items()})
            jobs = [
                self.pool(check.check_files, self.projects),
                self.pool(check.check_with_ruff, self.projects),
            ]
            if self.whole:  # mypy reads all of torch first; test_generated.py shows it all sources
                typed = check.cover_of_sources(self.projects)
                jobs.append(self.pool(check.check_types, typed, MYPY_CACHE, patience_s=1200))
            await self.share("check", jobs)

    async def run(self, num_gpus: int) -> None:
        await self.run_groups(self.runner(num_gpus), self.projects if self.whole else self.open)

    def runner(self, num_gpus: int) -> Runner:
        return Runner(
            self.folder / "runs",
            self.pool,
            self.programs,
            self.root,
            self.slow_disk_s,
            num_gpus,
            sampled=not self.whole,
        )

    async def run_groups(self, runner: Runner, projects: Named) -> None:
        for name, group in groups(projects).items() if self.whole else [("sample", projects)]:
            before = Counter(self.programs.distinct)
            with self.stage(f"run: {name}") as row:
                if self.whole:
                    await self.time_training(name, runner, group)
                await self.prove(row, runner, group)
            row.programs = (self.programs.distinct - before).total()
        for name, programs in self.programs.distinct.items():
            self.report.parts.append((name, programs, *self.pool.used(name)))

    async def time_training(self, name: str, runner: Runner, group: Named) -> None:
        begin, before = time.monotonic(), self.programs.distinct["train"]
        training = (runner.train(project) for _, project in group)
        await asyncio.gather(*training, return_exceptions=True)  # `prove` meets what they raise
        distinct = self.programs.distinct["train"] - before
        self.report.rates.append((name, len(group), distinct, time.monotonic() - begin))

    async def prove(self, row: Stage, runner: Runner, group: Named) -> None:
        row.combinations = len(group)
        done = 0

        async def one(name: str, project: Rendered) -> None:
            nonlocal done
            try:
                for _, reason in await stages(runner, project):
                    self.failed(row.name, {name: reason})
            except NotRunError as why:
                row.not_run += 1
                self.report.not_run[str(why)].append(name)
            done += 1
            self.progress(row.name, done, len(group))

        await asyncio.gather(*(one(name, project) for name, project in group))

    async def start_cold(self) -> None:
        """Train each framework and strategy through the real launcher, several times."""
        pairs = sorted({(str(a["framework"]), str(a["strategy"])) for a in self.answers})
        with self.stage("cold starts") as row:
            before = os.times()
            row.combinations = row.programs = len(pairs)
            jobs = []
            for framework, strategy in pairs:
                answers: Answers = {
                    "framework": framework,
                    "strategy": strategy,
                    "loggers": [],
                    "hpo": "none",
                }
                project = project_of(answers, self.root)
                folder = write(project, self.folder / f"cold-{framework}-{strategy}")
                jobs += [self.start_once(project, folder, number) for number in range(cold.TIMES)]
            await self.share("cold starts", jobs)
            after = os.times()
        row.runs = len(jobs)
        row.cpu_seconds = sum(after[2:4]) - sum(before[2:4])  # of the programs that have ended

    async def start_once(self, project: Rendered, folder: Path, number: int) -> list[Problems]:
        """Start one by this process, as what a fork takes for Python is another fork."""
        processes = 1 if project.answers["strategy"] == "single" else 2
        async with self.pool.free:
            wrong = await asyncio.to_thread(cold.wrong_end, folder, inside.PACKAGE, number, processes)
        return [{named(project.answers): f"start {number}: {wrong}"} if wrong else {}]


def chunks(answers: Sequence[Answers]) -> list[list[Answers]]:
    return [part for number in range(CHUNKS) if (part := list(answers[number::CHUNKS]))]


def groups(projects: Named) -> dict[str, Named]:
    """Combinations that cost about the same, whose rates can be told apart."""
    found: dict[str, Named] = {}
    for name, project in sorted(projects, key=lambda each: group_of(each[1])):
        found.setdefault(group_of(project), []).append((name, project))
    return found


def group_of(project: Rendered) -> str:
    strategy = str(project.answers["strategy"])
    return f"{strategy}, {'with' if project.answers['loggers'] else 'without'} loggers"
