"""Segmentation: what it learns beside a baseline, alike in both frameworks, in memory that is bounded."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlscaffold.catalogue.questions import Answers
from tests.conftest import Say
from tests.support.projects import FRAMEWORKS, SOAK, Project, rendered, times, write
from tests.support.proofs import once
from tests.support.releases import ROOT
from tests.support.results import assert_same_results

SHORT = ("--max_steps", "30", "--model.width", "4", "--precision", "fp32", "--validate_every", "10")
FEW, SIDE = 8, 512
GetRun = Callable[[str], Path]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> GetRun:
    """A run of a framework: a short one, in `make soak` the default one."""

    @once
    def train(framework: str) -> Path:
        answers: Answers = {"task": "segmentation", "framework": framework, "serving": "fastapi"}
        project = Project(write(rendered(answers), tmp_path_factory.mktemp(framework)), "my_project")
        arguments = () if SOAK else SHORT
        project.run_fork("-m", "my_project.train", "--num_threads", "1", "--out_dir", "run", *arguments)
        return project.folder / "run"

    return train


def test_both_frameworks_give_the_same_numbers_and_pictures_of_them(run_of: GetRun) -> None:
    first, *others = map(run_of, FRAMEWORKS)
    for other in others:
        assert_same_results(first, other)
    assert {"curves.png", "iou.png", "overlays.png"} <= {path.name for path in first.iterdir()}


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="make soak")
def test_the_default_run_beats_masks_of_the_most_frequent_class(run_of: GetRun, say: Say) -> None:
    for framework in FRAMEWORKS:
        run = run_of(framework)
        project = Project(run.parent, "my_project")
        said = project.run_fork("-m", "my_project.evaluate", "--run", "run")
        iou = float(dict(line.split() for line in said.splitlines())["test/iou"])
        counts = torch.load(run / "sums.pt", weights_only=True)["confusion"].numpy()
        baseline = counts.sum(1).max() / counts.sum() / len(counts)
        say(f"{framework}: mean IoU {iou:.3f}, of the most frequent class alone {baseline:.3f}")
        assert iou > baseline + 0.3


@pytest.mark.timeout(3000)
def test_memory_of_an_evaluation_does_not_grow_with_the_number_of_masks(run_of: GetRun, say: Say) -> None:
    """Kept would be, of each sample, an image of 3 MB, and logits of 2 MB."""
    folder, number = run_of(FRAMEWORKS[0]).parent, times(24, 2000)
    project = Project(folder, "my_project")
    for name, count in {"few": FEW, "many": number}.items():
        for split, held in {"train": 2, "val": 2, "test": count}.items():
            write_pairs(folder / name / split, held)
        (folder / name / "classes.txt").write_text("dark\nbright\n")
    settings = ("--data.root", "few", "--data.size", f"[{SIDE}, {SIDE}]", "--data.batch_size", "2")
    small = ("--model.width", "4", "--model.depth", "2", "--max_steps", "1", "--num_threads", "1")
    project.run_fork("-m", "my_project.train", "--out_dir", "large", *settings, *small)
    script = (ROOT / "tests/support/evaluated_masks.py", "my_project", "large", "few", "many")
    few, many = json.loads(project.run_fork(*script, timeout_s=2800).splitlines()[-1])
    say(f"at most {few:.0f} MB for {FEW} masks of {SIDE}x{SIDE}, {many:.0f} MB for {number}")
    assert many - few < 40


def write_pairs(folder: Path, number: int) -> None:
    """So many pairs of files, all of them of the same content."""
    mask = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) // 64 % 2).astype(np.uint8)
    for name, pixels in {"images": mask * 200, "masks": mask}.items():
        (folder / name).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / name / "0.png")
        for i in range(1, number):
            (folder / name / f"{i}.png").symlink_to("0.png")


def test_the_tests_of_a_project_with_the_task_pass(run_of: GetRun) -> None:
    """Those that the task brings, and those of what it does otherwise."""
    names = ("test_task", "test_requests", "test_interface", "test_service")
    project = Project(run_of(FRAMEWORKS[-1]).parent, "my_project")
    said = project.run_fork("-m", "pytest", "-q", "-n", "0", *(f"tests/{name}.py" for name in names))
    assert " passed" in said
    assert "skipped" not in said
