"""What is learned from texts: against what needs no network, and in two processes as in one."""

from pathlib import Path
from statistics import mean

import pytest

from mlscaffold.catalogue.questions import Answers
from tests.conftest import Say
from tests.support.projects import FRAMEWORKS, SOAK, Project, rendered, write
from tests.support.releases import ROOT
from tests.training.test_resume import LANGUAGE, OWN, TAKEN, TEXTS, write_project


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="make soak")
def test_the_default_run_beats_gzip_on_the_same_bytes_alike_in_both_frameworks(
    tmp_path: Path, say: Say
) -> None:
    metrics = set()
    for framework in FRAMEWORKS:
        answers: Answers = {"task": LANGUAGE, "framework": framework, "loggers": []}
        project = Project(write(rendered(answers), tmp_path / framework), "my_project")
        project.run_fork("-m", "my_project.train", "--num_threads", "1", "--out_dir", "run")
        said = project.run_fork("-m", "my_project.evaluate", "--run", "run")
        scores = dict(line.split() for line in said.splitlines())
        gzipped = float(project.run_fork(ROOT / "tests/support/gzipped.py", "my_project"))
        say(f"{framework}: {scores['test/bits_per_byte']} bits a byte, gzip {gzipped:.4f}")
        assert float(scores["test/bits_per_byte"]) < gzipped
        metrics.add((project.folder / "run/metrics.csv").read_text())
    assert len(metrics) == 1


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="make soak")
def test_the_default_run_tells_languages_as_well_as_tfidf_and_alike_in_both_frameworks(
    tmp_path: Path, say: Say
) -> None:
    """To one standard error of an accuracy on that many texts."""
    reached: dict[str, list[str]] = {}
    for framework in FRAMEWORKS:
        answers: Answers = {"task": TEXTS, "framework": framework, "loggers": []}
        project = Project(write(rendered(answers), tmp_path / framework), "my_project")
        for seed in map(str, range(3)):
            run = ("--seed", seed, "--out_dir", seed)
            project.run_fork("-m", "my_project.train", "--num_threads", "1", *run)
            said = project.run_fork("-m", "my_project.evaluate", "--run", seed)
            reached.setdefault(framework, []).append(dict(map(str.split, said.splitlines()))["test/accuracy"])
    *_, last = project.run_fork(ROOT / "tests/support/tfidf.py", "my_project").splitlines()
    ours, theirs = mean(map(float, reached[FRAMEWORKS[0]])), float(last.split()[1])
    say(f"accuracy {ours:.4f}, TF-IDF {theirs:.4f}")
    assert ours > theirs - 0.008
    assert reached[FRAMEWORKS[0]] == reached[FRAMEWORKS[1]]


@pytest.mark.parametrize(("task", "framework"), zip((TEXTS, LANGUAGE), FRAMEWORKS, strict=True))
def test_two_processes_learn_as_one_with_twice_the_batch(task: str, framework: str, tmp_path: Path) -> None:
    """Without dropout. Counts that differ between processes are those of `test_losses.py`."""
    project = Project(write_project(task, framework, "ddp", tmp_path), "my_project")
    settings = [*OWN[task], "--model.width", "8", "--model.dropout", "0", "--max_steps", "12"]
    settings += ["--log_every", "1", "--num_threads", "1"]
    metrics = {}
    for processes in (1, 2):
        own = ("--data.batch_size", str(TAKEN[task] // processes), "--out_dir", str(processes))
        project.run_fork("-m", "my_project.train", *settings, *own, processes=processes)
        lines = (tmp_path / str(processes) / "metrics.csv").read_text().splitlines()
        rows = [line.split(",") for line in lines if "loss" in line]
        metrics[processes] = {(row[0], row[2]): float(row[3]) for row in rows}
    assert len(metrics[1]) >= 12
    assert metrics[2] == pytest.approx(metrics[1], rel=1e-5)
