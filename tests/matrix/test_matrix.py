"""The matrix says which combinations fail, how to see it again, and misses none of the recorded mistakes."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from mlscaffold.catalogue.questions import Answers
from mlscaffold.errors import AnswerError
from tests.matrix import plan, proven
from tests.matrix.mutations import MUTATIONS, Mutation, spread
from tests.matrix.pool import Pool, RunError
from tests.matrix.report import Failure, Report
from tests.matrix.session import Session
from tests.support import endings
from tests.support.projects import CATALOGUE, SOAK

ALL = plan.legal(CATALOGUE)


def failing(session: Session) -> set[str]:
    return {failure.combination for failure in session.report.failures}


def mistake(mutation: Mutation) -> ParameterSet:
    """A parameter; the ones that are seen in seconds are part of `make test`."""
    slow = pytest.mark.skipif(not SOAK, reason="make soak")
    return pytest.param(mutation, marks=slow if mutation.slow else (), id=mutation.name)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutation", [mistake(mutation) for mutation in MUTATIONS])
def test_a_mistake_fails_where_it_shows_and_nowhere_else(mutation: Mutation, tmp_path: Path) -> None:
    """`make soak` runs all of every combination, `make test` what a mistake is found by, in every second."""
    (tmp_path / "template").mkdir()
    root = mutation.apply(tmp_path / "template")
    over = mutation.over if SOAK else spread(mutation.over)
    met = [answers for answers in over if SOAK or differs(answers, root)]
    session = Session(met, tmp_path / "work", root=root, slow_disk_s=mutation.slow_disk_s)
    expected = {plan.named(answers) for answers in over if mutation.bites(answers)}
    assert expected
    asyncio.run(session.run(0) if SOAK else look_for(session, expected))
    assert failing(session) == expected, session.report.complaints()


def differs(answers: Answers, root: Path) -> bool:
    """Whether any program of a combination, or of those that it is compared with, is another than without
    the mistake; if not, the runs of the matrix without mistakes have shown what these would.
    """
    every = proven.compared(answers)
    return any(plan.project_of(each, root).sources != plan.project_of(each).sources for each in every)


async def look_for(session: Session, expected: set[str]) -> None:
    """Run where a mistake has to show up to the first failure, and elsewhere the parts that have failed."""
    runner = session.runner(0)
    runner.first_alone = True
    await session.run_groups(runner, [each for each in session.projects if each[0] in expected])
    runner.parts = runner.failed
    await session.run_groups(runner, [each for each in session.projects if each[0] not in expected])


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_recorded_mistake_fits_the_template_of_today(mutation: Mutation, tmp_path: Path) -> None:
    mutation.apply(tmp_path)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_second_combination_has_each_answer_of_all_and_each_pair_of_three(mutation: Mutation) -> None:
    met = set().union(*map(plan.pairs_of, spread(mutation.over)))
    wanted = set().union(*map(plan.pairs_of, mutation.over))
    assert {each for pair in met for each in pair} == {each for pair in wanted for each in pair}
    varied = [name for name in mutation.over[0] if len({str(each[name]) for each in mutation.over}) > 1]
    assert met == wanted or len(varied) == 2


def test_there_are_recorded_mistakes_enough() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 8


def test_the_core_is_whole_and_other_questions_meet_every_answer() -> None:
    core = list(CATALOGUE.combinations())
    assert ALL[: len(core)] == core
    axes = {question.name: question.values for question in CATALOGUE.questions if question.values}
    met = set().union(*(plan.pairs_of(CATALOGUE.resolve(answers)) for answers in ALL))
    for first in axes:
        for second in axes:
            for one in plan.settings(first, axes[first]):
                for other in plan.settings(second, axes[second]):
                    pair = frozenset((one, other))
                    assert first == second or pair in met or not plan.can_meet(CATALOGUE, pair), pair


def test_a_sample_is_drawn_with_its_seed_and_covers_pairs() -> None:
    drawn = plan.sample(ALL, 48, 7)
    assert drawn == plan.sample(ALL, 48, 7) != plan.sample(ALL, 48, 8)
    assert len(drawn) == len({plan.named(answers) for answers in drawn}) == min(48, len(ALL))
    met, all_pairs = (set().union(*map(plan.pairs_of, each)) for each in (drawn, ALL))
    assert len(met) > 0.9 * len(all_pairs)


def test_a_sample_takes_less_work_than_one_that_is_drawn_for_its_pairs_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def total(drawn: Sequence[Answers]) -> float:
        return sum({part: size for each in drawn for part, size in work(each).items()}.values())

    work, ours = plan.work, plan.sample(ALL, 48, 7)
    monkeypatch.setattr(plan, "work", lambda _: {})
    assert total(ours) < 0.7 * total(plan.sample(ALL, 48, 7))


def test_a_name_chooses_its_combination_and_others_that_give_the_same_answers() -> None:
    for answers in ALL[:: max(1, len(ALL) // 50)]:
        found = plan.only(ALL, plan.named(answers), CATALOGUE)
        assert [each for each in found if each == answers] == [answers]
        assert all({name: CATALOGUE.resolve(each)[name] for name in answers} == answers for each in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [("framwork=ignite", "did you mean framework|framework"), ("strategy=nothing", "nothing")],
)
def test_what_no_combination_has_is_refused(text: str, words: str) -> None:
    with pytest.raises(AnswerError, match=words):
        plan.only(ALL, text, CATALOGUE)


def test_a_run_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"exit codes \[1\]\n(.*\n)*.*no such verb"):
        asyncio.run(call(tmp_path, endings.fail))


def test_a_run_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(RunError, match=r"it hung: ended after 8 s\n(.*\n)*.*in hang"):
        asyncio.run(call(tmp_path, endings.hang, patience_s=8))
    assert time.monotonic() - begin < 120
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}/stat").exists()


def test_a_process_that_ends_early_with_code_0_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ended with code 0 before they were done"):
        asyncio.run(call(tmp_path, endings.end_early))


async def call(folder: Path, function: object, patience_s: float = 60) -> list[object]:
    return await Pool(folder, 1)(function, patience_s=patience_s)  # type: ignore[arg-type]


def test_failures_that_are_alike_are_told_together_with_a_command() -> None:
    report = Report(
        "cpu", 3, failures=[Failure("train", f"framework=x,loggers=a+{i}", "E1\nE2") for i in "bc"]
    )
    said = report.complaints(most=1)
    assert said.splitlines() == [
        "FAILED train: 2 combinations",
        "  framework=x,loggers=a+b",
        "  and 1 more",
        'again: python -m tests.matrix --only "framework=x,loggers=a+b"',
        "  | E1",
        "  | E2",
    ]


def test_the_table_counts_combinations_that_fail_once() -> None:
    failures = [Failure("check", "a=1", "x"), Failure("train", "a=1", "y")]
    assert "**1 of 2 combinations pass**" in Report("cpu", 2, failures=failures).table()
