"""A language model on the data that ship with Python."""

from pathlib import Path

import pytest

from mlscaffold.catalogue.questions import Answers
from tests.conftest import Say
from tests.support.projects import FRAMEWORKS, SOAK, Project, rendered, write
from tests.support.releases import ROOT


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="make soak")
def test_the_default_run_beats_gzip_on_the_same_bytes_alike_in_both_frameworks(
    tmp_path: Path, say: Say
) -> None:
    metrics = set()
    for framework in FRAMEWORKS:
        answers: Answers = {"task": "language-modeling", "framework": framework, "loggers": []}
        project = Project(write(rendered(answers), tmp_path / framework), "my_project")
        project.run_fork("-m", "my_project.train", "--num_threads", "1", "--out_dir", "run")
        said = project.run_fork("-m", "my_project.evaluate", "--run", "run")
        scores = dict(line.split() for line in said.splitlines())
        gzipped = float(project.run_fork(ROOT / "tests/support/gzipped.py", "my_project"))
        say(f"{framework}: {scores['test/bits_per_byte']} bits a byte, gzip {gzipped:.4f}")
        assert float(scores["test/bits_per_byte"]) < gzipped
        metrics.add((project.folder / "run/metrics.csv").read_text())
    assert len(metrics) == 1
