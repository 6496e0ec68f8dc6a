"""Image generation: what it makes beside baselines, alike in both frameworks; its projects' tests pass."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlscaffold.catalogue.questions import Answers
from tests.conftest import Say
from tests.support.projects import CATALOGUE, FRAMEWORKS, GAN, SOAK, Project, rendered, write
from tests.support.proofs import once
from tests.support.results import assert_same_results

SHORT = (
    *("--max_steps", "24", "--validate_every", "8", "--model.width", "16"),
    *("--precision", "fp32", "--ema_decay", "0.9"),
)
OWN = {"flow": ("--model.steps", "2", "--model.dropout", "0.1"), "gan": ()}
# How large the distance of a default run may be, as a share of that of one image for each class and of noise.
MOST = {"flow": (0.4, 0.1), "gan": (0.5, 0.1)}
TESTS = {
    "flow": ("test_task", "test_requests", "test_interface", "test_service"),
    "gan": ("test_task", "test_interface", "test_export"),
}
BASELINES = """
import json, torch
from my_project import generated
from my_project.task import data, settings
given = data.open_data(settings.DataConfig(repeat=1))
train, val, test = (each.batch([*range(len(each))], None) for each in given[:3])
means = torch.stack([train["image"][train["label"] == label].mean(0) for label in range(10)])
noise = torch.rand(test["image"].shape, generator=torch.Generator().manual_seed(0))
made = {"real": (train["image"], train["label"]), "noise": (noise, test["label"])}
made["one for each class"] = (means[test["label"]], test["label"])
real = generated.products(test["image"], test["label"], 10)
sums = {name: {"real": real, "made": generated.products(*pair, 10)} for name, pair in made.items()}
print(json.dumps({name: generated.compare(each, 10, "")["frechet"] for name, each in sums.items()}))
"""
GetRun = Callable[[str, str], Path]
by_generator = pytest.mark.parametrize("generator", [str(value) for value in CATALOGUE["generator"].values])


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> GetRun:
    """A run of a framework and a generator: a short one, in `make soak` the default one."""

    @once
    def train(framework: str, generator: str) -> Path:
        answers: Answers = {
            "task": "image-generation",
            "generator": generator,
            "framework": framework,
            "serving": "fastapi",
        }
        project = Project(write(rendered(answers), tmp_path_factory.mktemp(framework)), "my_project")
        arguments = () if SOAK else (*SHORT, *OWN[generator])
        project.run_fork("-m", "my_project.train", "--num_threads", "1", "--out_dir", "run", *arguments)
        return project.folder / "run"

    return train


@by_generator
def test_both_frameworks_give_the_same_numbers_and_images(run_of: GetRun, generator: str) -> None:
    first, *others = (run_of(framework, generator) for framework in FRAMEWORKS)
    for other in others:
        assert_same_results(first, other)
    for run in (first, *others):
        assert {"curves.png", "samples.png"} <= {path.name for path in run.iterdir()}


def test_a_step_of_a_gan_is_counted_once_and_has_a_loss_for_each_network(run_of: GetRun) -> None:
    for framework in FRAMEWORKS:
        run = run_of(framework, "gan")
        rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()[1:]]
        steps = {name: [int(step) for step, _, other, _ in rows if other == name] for _, _, name, _ in rows}
        assert steps["train/discriminator_loss"] == steps["train/generator_loss"] == steps["lr"]
        last = json.loads((run / "run.json").read_text())["finished"]
        assert steps["val/frechet"][-1] == last
        assert SOAK or (last, steps["lr"], steps["val/frechet"]) == (24, [10, 20], [8, 16, 24])


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="make soak")
@by_generator
def test_the_default_run_is_nearer_to_real_images_than_noise_and_than_one_for_each_class(
    run_of: GetRun, generator: str, say: Say
) -> None:
    for framework in FRAMEWORKS:
        project = Project(run_of(framework, generator).parent, "my_project")
        said = project.run_fork("-m", "my_project.evaluate", "--run", "run")
        found = float(dict(line.split() for line in said.splitlines())["test/frechet"])
        baselines = json.loads(project.run_fork("-c", BASELINES).splitlines()[-1])
        say(f"{framework}, {generator}: Frechet distance {found:.3f}; of {baselines}")
        of_one_each, of_noise = MOST[generator]
        assert found < of_one_each * baselines["one for each class"]
        assert found < of_noise * baselines["noise"]


@by_generator
def test_the_tests_of_a_project_with_the_task_pass(run_of: GetRun, generator: str) -> None:
    """Those that the task brings, and those of what it does otherwise."""
    project = Project(run_of(FRAMEWORKS[-1], generator).parent, "my_project")
    said = project.run_fork(
        "-m", "pytest", "-q", "-n", "0", *(f"tests/{name}.py" for name in TESTS[generator])
    )
    assert " passed" in said
    assert said.count("skipped") == (generator == "gan"), said  # whose losses may pull against each other


def test_a_generator_that_collapses_is_told_of_after_each_validation_and_goes_on(run_of: GetRun) -> None:
    project = Project(run_of(FRAMEWORKS[0], "gan").parent, "my_project")
    harm = "--optim.lr 0.1 --optim.schedule plateau --ema_decay 0 --model.width 8 --max_steps 12"
    command = ("-m", "my_project.train", "--num_threads", "1", "--validate_every", "2", *harm.split())
    done = project.start_fork(*command, "--out_dir", "collapsed")
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if "nearly all alike" in line]
    rows = (project.folder / "collapsed/metrics.csv").read_text().splitlines()
    spread = [float(row.rpartition(",")[2]) for row in rows if ",val/spread," in row]
    assert len(spread) == 6
    assert len(said) == sum(0.95 < value < 1 for value in spread) >= 4
    remedy = "If that stays so, the generator has collapsed: raise objective.penalty or lower optim.lr."
    assert said[0].endswith(remedy)


@pytest.mark.parametrize(
    ("answers", "question", "reason"),
    [
        (
            {"generator": "gan"},
            "generator",
            "A GAN generates images. Use task=image-generation, or generator=flow.",
        ),
        (
            {**GAN, "optimizers": "one"},
            "optimizers",
            "A GAN has two optimizers. Use optimizers=several, or generator=flow.",
        ),
        (
            {**GAN, "generator": "gans"},
            "generator",
            "'gans' is not offered, only flow, gan. Did you mean gan?",
        ),
    ],
)
def test_a_gan_of_something_else_and_one_with_one_optimizer_are_refused_in_a_line(
    answers: Answers, question: str, reason: str
) -> None:
    assert CATALOGUE.objections(answers) == {question: reason}
    assert CATALOGUE.resolve(GAN)["optimizers"] == "several"
