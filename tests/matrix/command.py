"""The command line of the matrix."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mlscaffold.errors import MlscaffoldError
from tests.matrix import plan, proven
from tests.matrix.report import Failure, Report
from tests.matrix.session import Session
from tests.support import coverage, proofs
from tests.support.releases import ROOT

PAGE = ROOT / "docs/matrix.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--sample", type=int, metavar="N", help="draw N combinations that cover many pairs")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draw")
    parser.add_argument("--only", default="", metavar="K=V,...", help='such as "framework=ignite,hpo=optuna"')
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}, of a whole run"
    )
    arguments = parser.parse_args()
    catalogue = plan.catalogue_of()
    try:
        answers = plan.only(plan.legal(catalogue), arguments.only, catalogue)
    except MlscaffoldError as error:
        parser.error(str(error))
    if arguments.sample:
        answers = plan.sample(answers, arguments.sample, arguments.seed)
    device, everything = arguments.device, proven.whole(answers, arguments.device)
    if arguments.sample and not proven.fresh() and everything.holds():
        print(f"{len(answers)} combinations were proven before, and nothing has changed since (.proofs).")
        return
    known = [each for each in answers if proven.combination(each, device).holds()]
    known = known if arguments.sample and not proven.fresh() else []
    begin = proofs.stamp()
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder, bar() as shown:
        show = Shown(shown)
        session = Session(
            answers,
            Path(folder),
            arguments.device,
            whole=not arguments.sample,
            proven=frozenset(plan.named(each) for each in known),
            progress=show,
            tell=show.failure,
        )
        report = asyncio.run(session())
    say(report)
    if arguments.sample and proofs.stamp() == begin:
        failed = {failure.combination for failure in report.failures}
        passed = [each for each in answers if plan.named(each) not in failed]
        proven.keep(passed, None if failed else everything, device)
    if arguments.write and not (arguments.sample or arguments.only):
        PAGE.write_text(report.table(), encoding="utf-8")
        coverage.write()
    sys.exit(bool(report.failures))


def bar() -> Progress:
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True, soft_wrap=True), disable=not sys.stderr.isatty())


class Shown:
    """Moves bars on a terminal; elsewhere a line says that a stage is done."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, object] = {}

    def failure(self, failure: Failure) -> None:
        last = failure.reason.strip().splitlines()[-1:]
        self.progress.console.print(f"FAILED {failure.stage}: {failure.combination}", *last, markup=False)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.progress.disable:
            if done % 50 == 0 or done == total:
                print(f"{stage}: {done} of {total} done", file=sys.stderr, flush=True)
            return
        if stage not in self.tasks:
            self.tasks[stage] = self.progress.add_task(stage, total=total)
        self.progress.update(self.tasks[stage], completed=done)  # type: ignore[arg-type]


def say(report: Report) -> None:
    print(report.table())
    if report.failures:
        print(report.complaints())
    print(f"(of these, {report.import_seconds:.0f} s of imports)")
