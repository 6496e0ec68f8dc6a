"""Each run has a folder of its own, which tells what it came from; its first and last lines say the rest."""

import json
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from mlscaffold.catalogue.questions import Answers
from tests.support import forks, proofs
from tests.support.projects import Project, by_framework, rendered, write

TRAIN = ("-m", "my_project.train", "--num_threads", "1", "--model.width", "2")


def small(framework: str, folder: Path, **answers: str) -> Project:
    given: Answers = {"framework": framework, "loggers": [], **answers}
    return Project(write(rendered(given), folder), "my_project")


def told(run: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((run / "run.json").read_text())
    return content


# Prints which run each of several starts trained in, and to which step.
NUMBERS = """
import json, shutil
from dataclasses import replace
from pathlib import Path
from my_project.config import Config
from my_project.task.settings import ModelConfig
from my_project.train import run

CFG = Config(max_steps=2, num_threads=1, save_every=1, validate_every=1, model=ModelConfig(width=2))

def stop(samples, score):
    raise InterruptedError

def newest(run):
    return max((path.stem for path in (run / "checkpoints").glob("*.pt")), default="")

def trained(*report, **changes):
    before = {path: newest(path) for path in Path("runs").glob("*")}
    try:
        run(replace(CFG, **changes), *report)
    except InterruptedError:
        pass
    after = {path: newest(path) for path in Path("runs").glob("*")}
    return {path.name: step for path, step in after.items() if before.get(path) != step}

found = [
    trained(resume="auto"),
    trained(stop, max_steps=3),
    trained(),
    trained(resume="auto"),
    trained(resume="auto"),
    trained(resume="auto", max_steps=4),
]
for number in (9999, 10000):
    shutil.copytree("runs/0003", f"runs/{number}")
found += [trained(resume="auto", max_steps=5), trained()]
print("found", json.dumps(found))
"""


@by_framework()
def test_runs_are_numbered_and_auto_continues_the_newest_that_is_not_finished(
    framework: str, tmp_path: Path
) -> None:
    lines = small(framework, tmp_path).run_fork("-c", NUMBERS).splitlines()
    found = json.loads(next(line for line in lines if line.startswith("found")).removeprefix("found"))
    assert found == [
        {"0001": "step-00000002"},  # where there is none, auto begins one
        {"0002": "step-00000001"},
        {"0003": "step-00000002"},
        {"0002": "step-00000002"},  # is finished now, too
        {},  # the newest has this goal
        {"0002": "step-00000004"},  # was continued last
        {"0002": "step-00000005"},
        {"10001": "step-00000002"},
    ]


@by_framework()
def test_runs_that_start_at_once_get_numbers_of_their_own(framework: str, tmp_path: Path) -> None:
    project, log = small(framework, tmp_path), tmp_path / "log"
    starts = [
        forks.start((*TRAIN, "--max_steps", "2"), tmp_path, project.settings, log, log) for _ in range(3)
    ]
    assert [fork.wait(300) for fork in starts] == [0, 0, 0], log.read_text()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["0001", "0002", "0003"]
    assert all("finished" in told(path) for path in (tmp_path / "runs").iterdir())


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@by_framework()
def test_a_folder_that_holds_a_run_is_taken_by_that_run_alone(framework: str, tmp_path: Path) -> None:
    project = small(framework, tmp_path)
    for name in ("a", "b"):
        project.run_fork(*TRAIN, "--out_dir", name, "--max_steps", "4", "--save_every", "2")
    before = contents(tmp_path / "b")
    for resume in ("never", "a/checkpoints/step-00000002.pt"):
        done = project.start_fork(*TRAIN, "--out_dir", "b", "--resume", resume)
        assert done.returncode == 1
        said = "error: out_dir=b: it holds a run. Add --resume auto or another --out_dir."
        assert done.stderr.splitlines()[-1] == said
    assert contents(tmp_path / "b") == before
    whole = (tmp_path / "a/metrics.csv").read_text()
    back = (
        "--out_dir",
        "a",
        "--resume",
        "a/checkpoints/step-00000002.pt",
    )  # a run may go back to a step of its own
    project.run_fork(*TRAIN, *back, "--max_steps", "4", "--save_every", "2")
    assert (tmp_path / "a/metrics.csv").read_text() == whole
    assert (tmp_path / "a/best.pt").read_bytes() != b""


@by_framework()
def test_a_run_goes_on_with_the_data_that_it_began_with_alone(framework: str, tmp_path: Path) -> None:
    project = small(framework, tmp_path)
    for name, color in (("dark", 0), ("light", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (8, 8), color + number).save(tmp_path / "data" / name / f"{number}.png")
    given = ("--data.root", "data", "--data.batch_size", "4", "--epochs", "1")
    project.run_fork(*TRAIN, *given, "--out_dir", "run")
    Image.new("L", (8, 8), 9).save(tmp_path / "data/dark/another.png")
    done = project.start_fork(*TRAIN, *given, "--out_dir", "run", "--resume", "auto")
    assert done.returncode == 1
    [path] = (tmp_path / "run/checkpoints").glob("*.pt")
    assert done.stderr.splitlines()[-1] == (
        f"error: run/checkpoints/{path.name}: it was trained on other data:"
        " Source.fingerprint is another (18 samples then, 19 now)."
        " Start a new run from its weights: --init_from run"
    )
    project.run_fork(*TRAIN, *given, "--out_dir", "new", "--init_from", "run")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder), *arguments]
    with proofs.apart():
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@by_framework()
def test_a_run_tells_what_each_of_its_starts_came_from(framework: str, tmp_path: Path) -> None:
    project = small(framework, tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "begin")
    git(tmp_path, "config", "color.ui", "always")
    model = tmp_path / "src/my_project/task/model.py"
    model.write_text(model.read_text() + "# ä\n", encoding="utf-8")
    settings = ("--out_dir", "run", "--resume", "auto", "--max_steps")
    project.run_fork(*TRAIN, *settings, "2")
    git(tmp_path, "commit", "-qam", "an umlaut")
    project.run_fork(*TRAIN, *settings, "3")

    second = told(tmp_path / "run")
    first = cast("list[dict[str, Any]]", second["earlier"])[0]
    commits = git(tmp_path, "log", "--format=%H", "--reverse").split()
    assert [first["commit"], second["commit"]] == commits
    assert first["command"][1:] == [*TRAIN, *settings, "2"]
    library = "ignite" if framework == "ignite" else "pytorch_lightning"
    assert first["versions"].keys() >= {"python", "torch", library, "numpy"}
    assert first["samples"] == {"train": 1297, "val": 230, "test": 270}
    assert (first["finished"], first["ended"]) == (2, "reached epoch 1, step 2")
    assert (second["uncommitted"], second["patch"]) == (0, None)
    patch = tmp_path / "run" / first["patch"]
    assert patch.stat().st_size == first["uncommitted"]
    git(tmp_path, "apply", "--check", "--reverse", str(patch))


@pytest.mark.parametrize(("framework", "serving"), [("lightning", "export"), ("ignite", "none")])
def test_the_lines_of_a_run_say_what_it_is_how_it_ended_and_what_can_come_next(
    framework: str, serving: str, tmp_path: Path
) -> None:
    project = small(framework, tmp_path, serving=serving)
    first, *_, ended, heading, evaluate, more = without_export(
        project.run_fork(*TRAIN, "--epochs", "1"), serving != "none"
    )
    sizes = "cpu, 496 parameters, 1,297 train / 230 val / 270 test samples"
    assert first == f"runs/0001: {sizes}, 20 steps"
    assert ended.startswith("reached epoch 1, step 20; best val/accuracy 0.")
    assert ended.endswith(" at epoch 1, step 20: runs/0001")
    assert heading == "next:"
    assert evaluate == "  python -m my_project.evaluate --run runs/0001"
    assert "test/accuracy" in project.run_fork(*evaluate.split()[1:])
    assert more == "  python -m my_project.train --config runs/0001/config.yaml --resume auto --epochs 2"
    first, *_, ended, heading, evaluate, again = without_export(
        project.run_fork(*more.split()[1:]), serving != "none"
    )
    assert first == f"runs/0001: {sizes}, after step 20 of 40"
    assert ended.startswith("reached epoch 2, step 40; best val/accuracy 0.")
    assert again.endswith("--epochs 4")
    said = project.run_fork(*more.split()[1:]).splitlines()
    assert said[0] == ended.replace("reached epoch 2, step 40", "this run was finished already")


def without_export(said: str, is_there: bool) -> list[str]:
    """The lines but for that of a command that only some projects have."""
    lines = said.splitlines()
    export = "  python -m my_project.export --run runs/0001"
    assert (export in lines) == is_there
    return [line for line in lines if line != export]
