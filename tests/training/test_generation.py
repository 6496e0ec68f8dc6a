"""Image generation: what it makes beside baselines, alike in both frameworks; its projects' tests pass."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlscaffold.catalogue.questions import Answers
from tests.conftest import Say
from tests.support.projects import FRAMEWORKS, SOAK, Project, rendered, write
from tests.support.proofs import once
from tests.support.results import assert_same_results

SHORT = (
    *("--max_steps", "24", "--validate_every", "8", "--model.width", "16", "--model.steps", "2"),
    *("--precision", "fp32", "--ema_decay", "0.9", "--model.dropout", "0.1"),
)
BASELINES = """
import json, torch
from my_project.task import data, objective, settings
given = data.open_data(settings.DataConfig(repeat=1))
judge = objective.Objective(settings.ObjectiveConfig(), given.about)
train, val, test = (each.batch([*range(len(each))], None) for each in given[:3])
means = torch.stack([train["image"][train["label"] == label].mean(0) for label in range(10)])
noise = torch.rand(test["image"].shape, generator=torch.Generator().manual_seed(0))
made = {"real": (train["image"], train["label"]), "noise": (noise, test["label"])}
made["one for each class"] = (means[test["label"]], test["label"])
def gram(images, labels):
    features = judge.features(images, labels)
    return features.T @ features
real = gram(test["image"], test["label"])
zero = torch.zeros(())
print(json.dumps({name: judge.scores({"real": real, "made": gram(*pair), "loss": zero})["frechet"]
                  for name, pair in made.items()}))
"""
GetRun = Callable[[str], Path]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> GetRun:
    """A run of a framework: a short one, in `make soak` the default one."""

    @once
    def train(framework: str) -> Path:
        answers: Answers = {"task": "image-generation", "framework": framework, "serving": "fastapi"}
        project = Project(write(rendered(answers), tmp_path_factory.mktemp(framework)), "my_project")
        arguments = () if SOAK else SHORT
        project.run_fork("-m", "my_project.train", "--num_threads", "1", "--out_dir", "run", *arguments)
        return project.folder / "run"

    return train


def test_both_frameworks_give_the_same_numbers_and_images(run_of: GetRun) -> None:
    first, *others = map(run_of, FRAMEWORKS)
    for other in others:
        assert_same_results(first, other)
    for run in (first, *others):
        assert {"curves.png", "samples.png"} <= {path.name for path in run.iterdir()}


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="make soak")
def test_the_default_run_is_nearer_to_real_images_than_noise_and_than_one_for_each_class(
    run_of: GetRun, say: Say
) -> None:
    for framework in FRAMEWORKS:
        project = Project(run_of(framework).parent, "my_project")
        said = project.run_fork("-m", "my_project.evaluate", "--run", "run")
        found = float(dict(line.split() for line in said.splitlines())["test/frechet"])
        baselines = json.loads(project.run_fork("-c", BASELINES).splitlines()[-1])
        say(f"{framework}: Frechet distance {found:.3f}; of {baselines}")
        assert found < 0.4 * baselines["one for each class"]
        assert found < 0.1 * baselines["noise"]


def test_the_tests_of_a_project_with_the_task_pass(run_of: GetRun) -> None:
    """Those that the task brings, and those of what it does otherwise."""
    names = ("test_task", "test_requests", "test_interface", "test_service")
    project = Project(run_of(FRAMEWORKS[-1]).parent, "my_project")
    said = project.run_fork("-m", "pytest", "-q", "-n", "0", *(f"tests/{name}.py" for name in names))
    assert " passed" in said
    assert "skipped" not in said
