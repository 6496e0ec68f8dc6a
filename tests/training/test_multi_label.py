"""Another task is other files in `task/`, and no more: the example of docs/interface.md."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mlscaffold.catalogue.questions import Answers
from tests.support.pages import Reader, section
from tests.support.projects import FRAMEWORKS, Project, by_framework, rendered, write
from tests.support.proofs import once
from tests.support.releases import ROOT, git
from tests.training.test_losses import checkpoint, distance, same

EXAMPLE = ROOT / "examples/multi-label"
TITLE = "Example: from one class to several labels"
# 40 steps, 20 an epoch; of their checkpoints two are kept: of the last step, and of step 35 within an epoch.
TEXT = "--epochs 2 --save_every 7 --model.width 8 --model.dropout 0 --num_threads 1 --precision fp32"
SHORT = TEXT.split(" ")
BATCH = 64  # of all processes

Made = Callable[[str], Project]
Whole = Callable[[str, int], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The default project with the example's task."""

    @once
    def make(framework: str) -> Project:
        answers: Answers = {"project": "flowers", "framework": framework, "strategy": "ddp", "loggers": []}
        return with_example(write(rendered(answers), tmp_path_factory.mktemp(framework)))

    return make


@pytest.fixture(scope="module")
def whole(made: Made) -> Whole:
    """A run to its end, in so many processes."""
    return once(lambda framework, processes: train(made(framework), f"whole-{processes}", processes))


def with_example(folder: Path) -> Project:
    shutil.copytree(EXAMPLE / "task", folder / "src/flowers/task", dirs_exist_ok=True)
    shutil.copytree(EXAMPLE / "tests", folder / "tests", dirs_exist_ok=True)
    return Project(folder, "flowers")


def train(project: Project, name: str, processes: int, *more: str | Path) -> Path:
    size = ["--data.batch_size", str(BATCH // processes)]
    command = ("-m", "flowers.train", *SHORT, *size, "--out_dir", name, *more)
    project.run_fork(*command, processes=processes)
    return project.folder / name


def test_what_the_page_shows_is_what_stands_in_the_files_of_the_example() -> None:
    texts = {path.name: path.read_text() for path in EXAMPLE.rglob("*.py")}
    shown = set()
    for block in (block for kind, block in section("interface.md", TITLE) if kind == "python"):
        names = [name for name, text in texts.items() if all(part in text for part in block.split("\n\n\n"))]
        assert names, block
        shown.update(names)
    assert shown == texts.keys()


@by_framework()
def test_the_commands_of_the_page_work_and_only_the_task_and_its_test_have_changed(
    framework: str, tmp_path: Path
) -> None:
    blocks = section("interface.md", TITLE)
    [stat] = [text for kind, text in blocks if kind == "text"]
    begin, *others = [block for block in blocks if block[0] == "console"]
    with Reader(tmp_path, framework) as reader:
        reader.follow([begin])
        with_example(reader.folder)
        assert git(reader.folder, "diff", "--stat").split("\n") == stat.strip("\n").strip().split("\n")
        Image.new("L", (20, 20), 128).save(reader.folder / "digit.png")
        reader.follow(others)
        said = reader.said.splitlines()
        [predicted] = [json.loads(line) for line in said if line.startswith('{"input": "digit.png"')]
        [answered] = json.loads(said[-1])["predictions"]
        assert answered["labels"] == predicted["labels"]
        assert answered["probabilities"].keys() == {"even", "prime", "small"}
        assert any(line.startswith("test/exact 0.") for line in said)
        assert json.loads((reader.folder / "runs/0002/best.json").read_text())["monitor"] == "f1"
        assert (reader.folder / "runs/search/best.yaml").exists()


@pytest.mark.parametrize("processes", [1, 2])
@by_framework()
def test_a_run_goes_on_from_within_an_epoch_to_the_same_bits(
    framework: str, processes: int, made: Made, whole: Whole
) -> None:
    kept = whole(framework, processes) / "checkpoints/step-00000035.pt"
    resumed = train(made(framework), f"resumed-{processes}", processes, "--resume", kept)
    one, other = checkpoint(whole(framework, processes)), checkpoint(resumed)
    assert one["step"] == 40
    assert [name for name in one if not same(one[name], other[name])] == []


@by_framework()
def test_two_processes_come_to_the_weights_of_one(framework: str, made: Made) -> None:
    """After ten steps: after some more, rounding decides on which side of zero a sample leaves a ReLU."""
    still = train(made(framework), "still", 1, "--optim.lr", "0", "--max_steps", "1")
    few = [train(made(framework), f"few-{ranks}", ranks, "--max_steps", "10") for ranks in (1, 2)]
    one, two, start = (checkpoint(run)["module"] for run in (*few, still))
    assert distance(two, one, start) < 1e-5


def test_both_frameworks_come_to_the_same_bits(whole: Whole) -> None:
    for processes in (1, 2):
        one, other = (checkpoint(whole(framework, processes)) for framework in FRAMEWORKS)
        assert [name for name in one if name != "versions" and not same(one[name], other[name])] == []
