"""Stage 3: each distinct program of each project is run through its public commands."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.matrix import inside
from tests.matrix.harm import UNTIL, Harm, harms
from tests.matrix.plan import project_of
from tests.matrix.pool import Pool, RunError
from tests.matrix.programs import Programs, closure, key_of, path_of
from tests.support.projects import CATALOGUE, Files, Rendered, write

STOPPED_AFTER, ENDS_WITH = 4, 6  # optimizer steps; an epoch has three, the last of one batch instead of two
# Of a batch of all processes: a fifth of an epoch. Two processes share them out, so they are even.
SAMPLES = {
    "gan": 250,
    "image-classification": 250,
    "image-generation": 500,
    "language-modeling": 22,
    "segmentation": 48,
    "tabular": 80,
    "text-classification": 1000,
}
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
Result = TypeVar("Result")
RUN = inside.RUN
OF_TRAINING = ("precision", "data.batch_size")  # settings that no command after it computes with
OF_RUN = ("config.yaml", "best.json", "best.pt", "objective.pt", "assets")  # what commands after it read
FIRST, PRECISION = (str(CATALOGUE[name].values[0]) for name in ("framework", "precision"))
# Harm is counted in steps, each of one batch.
HARMED = ("--log_every", "1", "--optim.accumulate", "1", "--validate_every", "0")
PARTS = ("train", "numbers", "harm", "predict", "export", "serve", "tune")  # of the proof of a project


class WrongError(Exception):
    """A program ran, and did not do what it should."""


class NotRunError(Exception):
    """A program cannot run here."""


@dataclass(frozen=True)
class Trained:
    run: Path  # its folder
    facts: dict[str, Any]


@dataclass
class Runner:
    """Runs what combinations are made of, below one folder."""

    folder: Path
    pool: Pool
    programs: Programs
    root: Path  # of the catalogue and the templates
    slow_disk_s: float
    num_gpus: int
    sampled: bool  # not the whole matrix
    models: dict[str, Trained] = field(default_factory=dict)  # one for each settings and shapes of weights
    parts: Container[str] = PARTS  # that are run, of those that a project has
    first_alone: bool = False  # whether a project that has failed in one part is not run in others
    failed: set[str] = field(default_factory=set)  # parts in which a project has failed

    async def train(self, project: Rendered) -> Trained:
        """Some steps and a checkpoint, a resume, some more steps: as one run of all these steps."""
        key = key_of(closure(project, "train"), "train")
        return await self.programs.once("train", key, lambda: self._train(project, key))

    async def _train(self, project: Rendered, key: str) -> Trained:
        if "mlflow" in str(project.answers["loggers"]):
            await self.prepare_mlflow(self.folder / key / RUN)
        first = await self.start(project, key, STOPPED_AFTER, scale=inside.OTHER_SCALE, forge=True)
        run = self.folder / key / RUN
        settings = (run / "config.yaml").read_text()
        then = await self.start(project, key, ENDS_WITH, "--resume", "auto")
        expect_restored(project, first, then)
        facts = then[0].facts
        await self.compare_with_whole(project, facts, then[0].saved)
        await self.read_loggers(project, run, settings)
        return Trained(run, facts)

    async def prepare_mlflow(self, run: Path) -> None:
        """Put an empty store where a run will look for one."""
        store = self.folder / "mlflow.db"
        await self.programs.once("mlflow", "", lambda: self.pool(inside.make_mlflow_store, store))
        run.mkdir(parents=True)
        shutil.copy(store, run / "mlflow.db")

    async def start(
        self,
        project: Rendered,
        place: str,
        steps: int,
        *more: str,
        scale: float | None = None,
        forge: bool = False,
        keep: bool = False,
    ) -> list[inside.Observed]:
        """Train in as many processes as the strategy takes, in a place of its own."""
        folder, ranks = self.prepare(project, place)
        seen: list[inside.Observed] = await self.pool(
            inside.train,
            [*arguments_of_run(project, ranks, steps), *more],
            scale,
            self.slow_disk_s,
            forge,
            keep,
            cwd=folder,
            path=folder / "src",
            ranks=ranks,
        )
        wanted = {DTYPES[str(project.answers["precision"])]}
        for process in seen:
            if process.dtypes != wanted:
                raise WrongError(f"a step computes in {sorted(process.dtypes)}, not in {sorted(wanted)}")
        return seen

    def prepare(self, project: Rendered, place: str) -> tuple[Path, int]:
        """Write a project to a place of its own; return that, and in how many processes it trains."""
        folder = self.folder / place
        if not (folder / "src").exists():
            write(project, folder)
        ranks = 0 if project.answers["strategy"] == "single" else 2
        if self.pool.device == "cuda" and ranks > self.num_gpus:
            raise NotRunError(f"needs {ranks} GPUs")
        return folder, ranks

    def like(self, project: Rendered) -> Rendered:
        """What stands for a project after its training: in a sample, the same one of the first precision."""
        return project_of({**project.answers, "precision": PRECISION}, self.root) if self.sampled else project

    async def harm(self, project: Rendered) -> None:
        """What goes wrong in a run without loggers changes no weight that it must not, and loses nothing."""
        plain = project_of({**project.answers, "loggers": []}, self.root)
        key = key_of(closure(self.like(plain), "train"), "harm")

        async def run(name: str, harm: Harm) -> str:
            folder, ranks = self.prepare(plain, f"{key}-{name}")
            arguments = [*arguments_of_run(plain, ranks, UNTIL, 2), *HARMED]
            call = (harm.wrong_end, arguments, self.slow_disk_s)
            wrong = await self.pool(*call, cwd=folder, path=folder / "src", ranks=ranks)
            return "".join(f"{name}, process {rank}: {text}\n" for rank, text in enumerate(wrong) if text)

        async def run_all() -> None:
            todo = harms(str(project.answers["strategy"]), str(project.answers["precision"]))
            if wrong := "".join(await asyncio.gather(*(run(name, harm) for name, harm in todo.items()))):
                raise WrongError(wrong)

        await self.programs.once("harm", key, run_all)

    async def numbers(self, project: Rendered) -> None:
        """In float32 and without dropout each step, of several processes too, is that of plain code."""
        plain = project_of({**project.answers, "loggers": [], "precision": PRECISION}, self.root)
        key = key_of(closure(plain, "train"), "numbers")

        async def run() -> None:
            more = for_plain_loop(plain)
            await self.start(plain, key, ENDS_WITH, *more, "--save_every", "1", keep=True)
            arguments = [*arguments_of_run(plain, 0, ENDS_WITH), *more]
            call = (inside.wrong_in_numbers, arguments, ENDS_WITH)
            await self.expect_nothing_wrong(*call, cwd=self.folder / key)

        await self.programs.once("numbers", key, run)

    async def whole(self, project: Rendered) -> tuple[dict[str, Any], inside.Leaves]:
        """The same run without loggers and without a stop: what it led to, and its last checkpoint."""
        plain = project_of({**project.answers, "loggers": []}, self.root)
        key = key_of(closure(plain, "train"), "whole")

        async def run() -> tuple[dict[str, Any], inside.Leaves]:
            seen = await self.start(plain, key, ENDS_WITH, scale=inside.OTHER_SCALE)
            return seen[0].facts, seen[0].saved

        return await self.programs.once("whole", key, run)

    async def compare_with_whole(
        self, project: Rendered, facts: dict[str, Any], saved: inside.Leaves
    ) -> None:
        """A resume continues the very run, loggers change no number, and nor does the framework."""
        whole, whole_saved = await self.whole(project)
        expect_same(facts, whole, "a resumed run and one that was not stopped differ", self.exact)
        if self.exact and saved != whole_saved:
            both = sorted(saved ^ whole_saved)
            raise WrongError(
                f"the last checkpoints of a resumed run and of one that was not stopped differ: {both}"
            )
        if project.answers["framework"] != FIRST:
            other, _ = await self.whole(project_of({**project.answers, "framework": FIRST}, self.root))
            expect_same(facts, other, f"{project.answers['framework']} and {FIRST} differ", self.exact)

    @property
    def exact(self) -> bool:
        """Whether equal work gives equal bytes: a GPU adds numbers up in any order."""
        return self.pool.device == "cpu"

    async def read_loggers(self, project: Rendered, run: Path, settings: str) -> None:
        """Each logger has what `metrics.csv` has, and the settings of the run's first start or its last."""
        chosen = project.answers["loggers"]
        assert isinstance(chosen, list)
        if chosen:
            await self.expect_nothing_wrong(inside.wrong_in_loggers, run, chosen, settings)

    async def predict(self, project: Rendered, trained: Trained) -> list[inside.Prediction]:
        """Score the test split, and predict a few images: what everything that serves is held to."""
        like = self.like(project)
        files = closure(like, "evaluate") | closure(like, "predict")

        async def run(folder: Path) -> list[inside.Prediction]:
            predictions: list[inside.Prediction]
            [predictions] = await self.pool(inside.predict, cwd=folder, path=folder / "src")
            return predictions

        return await self.use("predict", project, trained, files, run)

    async def export(self, project: Rendered, trained: Trained) -> Path:
        """Every exported program gives the numbers of the model that was trained, for any batch."""

        async def run(folder: Path) -> Path:
            await self.expect_nothing_wrong(inside.wrong_in_export, cwd=folder)
            return folder / RUN / "export"

        return await self.use("export", project, trained, closure(self.like(project), "export"), run)

    async def serve(self, project: Rendered, trained: Trained) -> None:
        """The service predicts what `predict` does."""
        predictions = await self.predict(project, trained)
        exported = await self.export(project, trained)
        like = self.like(project)
        files = closure(like, "serve") | closure(like, "export")

        async def run(folder: Path) -> None:
            shutil.copytree(exported, folder / RUN / "export")
            await self.expect_nothing_wrong(inside.wrong_in_service, predictions, cwd=folder)

        await self.use("serve", project, trained, files, run)

    async def tune(self, project: Rendered) -> None:
        """A search of two trials ends the second one early."""
        files = closure(project, "tune") | closure(project, "search.run")

        async def run() -> None:
            folder = write(project, self.folder / f"tune-{key_of(files)}")
            if "mlflow" in str(project.answers["loggers"]):
                await self.prepare_mlflow(folder / inside.SEARCH)
            processes = 1 if project.answers["strategy"] == "single" else 2
            slow = is_gan(project) or not own_network(project)  # to learn: for more steps
            samples = samples_of(project) // (5 if slow else 1)
            settings = [*small(project), *(["--ema_decay", "0"] if is_gan(project) else [])]
            await self.expect_nothing_wrong(inside.wrong_in_search, samples, processes, settings, cwd=folder)

        await self.programs.once("tune", key_of(files), run)

    async def expect_nothing_wrong(
        self, function: Callable[..., str], *arguments: Any, cwd: Path | None = None
    ) -> None:
        """Call in a fork what returns a complaint."""
        path = cwd / "src" if cwd else None
        [wrong] = await self.pool(function, *arguments, cwd=cwd, path=path)
        if wrong:
            raise WrongError(wrong)

    async def use(
        self,
        stage: str,
        project: Rendered,
        trained: Trained,
        files: Files,
        run: Callable[[Path], Awaitable[Result]],
    ) -> Result:
        """Run something with a copy of a trained run, once for each distinct program and settings.

        Runs whose weights differ in nothing but their numbers stand for each other, and so do those that
        came to their weights in another precision or in batches of another size.
        """
        settings = inside.settings((trained.run / "config.yaml").read_text())
        model = key_of({}, settings | dict.fromkeys(OF_TRAINING), inside.shapes(trained.facts["best.pt"]))
        trained = self.models.setdefault(model, trained)
        key = key_of(files, stage, model)

        async def prepared() -> Result:
            folder = write(project, self.folder / f"{stage}-{key}")
            for path in (path for name in OF_RUN if (path := trained.run / name).exists()):
                copy = folder / RUN / path.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
            return await run(folder)

        return await self.programs.once(stage, key, prepared)


def samples_of(project: Rendered) -> int:
    return SAMPLES["gan" if is_gan(project) else str(CATALOGUE.resolve(project.answers)["task"])]


def arguments_of_run(project: Rendered, ranks: int, steps: int, times: int = 1) -> list[str]:
    """Short steps of as many samples, however many processes share them; none is logged at the stop."""
    samples = times * samples_of(project)
    return [
        *("--out_dir", RUN, "--epochs", "3", "--max_steps", str(steps), "--num_threads", "1"),
        *("--log_every", "3", "--validate_every", "2", "--optim.accumulate", "2"),
        *("--ema_decay", "0.5", "--data.batch_size", str(samples // (ranks or 1))),
        *small(project),
    ]


def for_plain_loop(project: Rendered) -> list[str]:
    """A plain loop draws no numbers for dropout, and goes for another score, most often the other way."""
    if is_gan(project):
        return ["--objective.monitor", "spread", "--ema_decay", "0"]
    constant = ["--model.dropout", "0"] if own_network(project) else []
    return ["--objective.monitor", "loss", "--ema_decay", "0", *constant]


def is_gan(project: Rendered) -> bool:
    return CATALOGUE.resolve(project.answers)["generator"] == "gan"


def own_network(project: Rendered) -> bool:
    """Whether a task brings its network, and not the small model that stands for a pretrained one."""
    return CATALOGUE.resolve(project.answers)["pretrained"] == "none"


def small(project: Rendered) -> list[str]:
    """Settings that make runs cheap: the width of a task's network, what is exported, the length of texts."""
    task = CATALOGUE.resolve(project.answers)["task"]
    if own_network(project):
        steps = task == "image-generation" and not is_gan(project)
        return ["--model.width", "4", *(["--model.steps", "2"] if steps else [])]
    return ["--data.max_tokens", "32"] if task == "text-classification" else []


def expect_restored(project: Rendered, first: list[inside.Observed], then: list[inside.Observed]) -> None:
    """What a resumed run begins with, in all its processes, is what the checkpoint holds, keys and values."""
    saved = first[0].saved
    began = frozenset[tuple[str, str]]().union(*(process.began_with for process in then))
    if lost := sorted(began - saved):
        raise WrongError(f"a resumed run begins with what its checkpoint does not hold: {lost}")
    wanted = {"exp_avg", "exp_avg_sq", "average", "lr", "reference", "samples", "kept"}
    if own_network(project):
        parts = ("generator.", "discriminator.") if is_gan(project) else ("",)
        wanted |= {f"{part}head.weight" for part in parts}
    if project.answers["precision"] == "fp16":
        wanted |= {"scale"}
        if ("scale", repr(inside.OTHER_SCALE)) not in saved:
            raise WrongError("the checkpoint holds another scale than the gradient scaler has")
    if lacking := wanted - {name for name, _ in began}:
        raise WrongError(f"a resumed run begins without {sorted(lacking)}")


def expect_same(ours: dict[str, Any], theirs: dict[str, Any], what: str, exact: bool) -> None:
    """Compare what two runs led to; where bytes cannot be equal, the names and steps of their metrics."""
    if not exact:
        ours, theirs = ({"metrics": _without_values(facts)} for facts in (ours, theirs))
    for name, value in ours.items():
        if value != theirs[name]:
            raise WrongError(f"{what}, in {name}:\n{value}\n{theirs[name]}")


def _without_values(facts: dict[str, Any]) -> list[str]:
    return [line.rpartition(",")[0] for line in facts["metrics.csv"].splitlines()]


async def stages(runner: Runner, project: Rendered) -> list[tuple[str, str]]:
    """Run all that a project has; return each part that failed, and why. Others need a trained model."""
    try:
        trained = await runner.train(project)
    except (RunError, WrongError) as error:
        runner.failed.add("train")
        return [("train", str(error))]
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "numbers": lambda: runner.numbers(project),
        "harm": lambda: runner.harm(project),
        "predict": lambda: runner.predict(project, trained),
        "export": lambda: runner.export(project, trained),
        "serve": lambda: runner.serve(project, trained),
        "tune": lambda: runner.tune(project),
    }
    failed: list[tuple[str, str]] = []
    for part, step in steps.items():
        if part not in runner.parts or (runner.first_alone and failed):
            continue
        try:
            if part in ("numbers", "harm") or path_of(project, part):
                await step()
        except (RunError, WrongError) as error:
            runner.failed.add(part)
            failed.append((part, str(error)))
    return failed
