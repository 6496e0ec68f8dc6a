"""A run that somebody else made is data: nothing of it is run, it leads nowhere else, and faults are told."""

import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.projects import FRAMEWORKS, Project, rendered, write

MAKE = """
import sys
from my_project import config, train
from my_project.serving import exported
sys.argv = "train --epochs 1 --max_steps 8 --num_threads 1 --model.width 8 --out_dir runs/default".split()
cfg, _ = config.parse("train")
train.run(cfg)
exported.export(cfg.out_dir, cfg, ["torch-export", "onnx", "torchscript"])
"""
# As `serve` does before it listens.
SERVE = """
import sys
from pathlib import Path
from my_project.errors import plain_errors
from my_project.serving.exported import load_model
with plain_errors():
    load_model(Path("runs/theirs"), sys.argv[1])
    print("loaded")
"""
RESUME = [
    "--config",
    "runs/default/config.yaml",
    "--out_dir",
    "runs/theirs",
    "--epochs",
    "2",
    "--max_steps",
    "9",
]
VERBS = {
    "predict": ["-m", "my_project.predict", "--run", "runs/theirs", "image.png"],
    "evaluate": ["-m", "my_project.evaluate", "--run", "runs/theirs"],
    "export": ["-m", "my_project.export", "--run", "runs/theirs"],
    "train": ["-m", "my_project.train", *RESUME, "--resume", "auto"],
    **{name: ["-c", SERVE, name] for name in ("plain", "onnx", "torch-export")},
}


class Attack:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


class Theirs:
    """A project with a run of somebody else in `runs/theirs`."""

    def __init__(self, project: Project) -> None:
        self.project, self.run = project, project.folder / "runs/theirs"
        self.mark = project.folder / "mark"
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(project.folder / "runs/default", self.run)

    def refuses(self, verb: str) -> str:
        """The one line that a verb ends with."""
        done = self.project.start_fork(*VERBS[verb])
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 1, f"{done.stdout}{done.stderr}"
        assert not self.mark.exists()
        said = done.stderr.strip().splitlines()
        assert [line for line in said if line.startswith("error: ")] == said[-1:]
        return said[-1]

    def write_checkpoint(self, content: Any) -> None:
        """With a manifest that is in order."""
        path = self.run / "checkpoints/step-00000008.pt"
        torch.save(content, path)
        manifest = {"sha256": sha256(path)}
        path.with_suffix(".json").write_text(json.dumps(manifest))

    def change(self, name: str, **values: Any) -> None:
        path = self.run / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    def rename_export(self, backend: str, file: str, path: Path) -> None:
        """Let `model.json` say that a backend's model is another file."""
        files = json.loads((self.run / "export/model.json").read_text())["files"]
        self.change("export/model.json", files=files | {backend: {"file": file, "sha256": sha256(path)}})


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def poison(path: Path, attack: Attack) -> None:
    """Put a pickle in place of a weight of a `.pt2`, whose own table says what is one."""
    with zipfile.ZipFile(path) as archive:
        items = {name: archive.read(name) for name in archive.namelist()}
    [table] = [name for name in items if name.endswith("weights_config.json")]
    weights = json.loads(items[table])
    first = next(iter(weights["config"].values()))
    first["use_pickle"] = True
    items[table] = json.dumps(weights).encode()
    buffer = io.BytesIO()
    torch.save(attack, buffer)
    items[next(name for name in items if name.endswith(f"/{first['path_name']}"))] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in items.items():
            archive.writestr(name, content)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    answers = {"framework": request.param, "loggers": [], "serving": "fastapi"}
    project = Project(write(rendered(answers), tmp_path_factory.mktemp("project")), "my_project")
    project.run_fork("-c", MAKE)
    return project


@pytest.fixture
def theirs(made: Project) -> Theirs:
    return Theirs(made)


@pytest.mark.parametrize("verb", ["predict", "evaluate", "export", "plain"])
def test_a_pickle_in_place_of_weights_is_not_run(verb: str, theirs: Theirs) -> None:
    torch.save({"x": Attack(theirs.mark)}, theirs.run / "best.pt")
    assert "best.pt" in theirs.refuses(verb)


def test_a_pickle_without_torchs_archive_and_one_in_a_checkpoint_are_not_run(theirs: Theirs) -> None:
    (theirs.run / "best.pt").write_bytes(pickle.dumps(Attack(theirs.mark)))
    assert "best.pt" in theirs.refuses("predict")
    theirs.write_checkpoint({"x": Attack(theirs.mark)})
    assert "step-00000008.pt" in theirs.refuses("train")


def test_a_run_does_not_choose_what_opens_its_model(theirs: Theirs) -> None:
    """A `.pt2` is a program; `--backend onnx` asks for data, whatever `model.json` calls it."""
    path = theirs.run / "export/model.pt2"
    poison(path, Attack(theirs.mark))
    theirs.rename_export("onnx", "model.pt2", path)
    assert "not the file that" in theirs.refuses("onnx")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_run_names_no_model_outside_it(absolute: bool, theirs: Theirs) -> None:
    outside = theirs.run.parent / "outside.ts"
    shutil.copy(theirs.run / "export/model.ts", outside)
    theirs.rename_export("onnx", str(outside) if absolute else "../../outside.ts", outside)
    (theirs.run / "export/model.onnx").unlink()
    assert "Export it first" in theirs.refuses("onnx")


def test_a_model_that_can_hold_code_is_served_with_a_warning(theirs: Theirs) -> None:
    done = theirs.project.start_fork(*VERBS["torch-export"])
    assert done.stdout == "loaded\n"
    assert "is a program" in done.stderr


def test_the_settings_of_a_run_bring_in_no_other_file(theirs: Theirs) -> None:
    secret = theirs.run.parent / "secret.yaml"
    secret.write_text("- s3cr3t\n")
    path = theirs.run / "config.yaml"
    path.write_text(f"{path.read_text()}config: {secret}\nrun: {secret.parent / 'default'}\n")
    (theirs.run / "best.pt").unlink()
    assert "s3cr3t" not in theirs.refuses("evaluate")


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"[1, 2]",
        b"{a: [1",
        b"model: 5",
        b"model:\n  width: 10000000",
        b"model: !!python/object/apply:os.system ['touch mark']",
        b"a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\nseed: *b",
    ],
)
def test_bad_settings_of_a_run_are_one_line(text: bytes, theirs: Theirs) -> None:
    (theirs.run / "config.yaml").write_bytes(text)
    for verb in ("evaluate", "plain"):
        theirs.refuses(verb)


def test_a_bad_best_json_is_one_line(theirs: Theirs) -> None:
    path = theirs.run / "best.json"
    about = json.loads(path.read_text())["about"]
    of_the_task = ({"shape": ["a", 8, 8]}, {"shape": [-1, 8, 8]}, {"classes": 5})
    for wrong in (
        {"format": "x"},
        {"assets": 3},
        {"about": 3},
        *({"about": about | bad} for bad in of_the_task),
    ):
        theirs.change("best.json", **wrong)  # type: ignore[arg-type]
        assert "best.json" in theirs.refuses("predict")
        shutil.copy(theirs.project.folder / "runs/default/best.json", path)
    path.write_bytes(b"\xff{")
    assert "best.json" in theirs.refuses("predict")


def test_a_run_names_no_file_outside_it(theirs: Theirs) -> None:
    secret = theirs.run.parent / "secret"
    secret.write_text("s3cr3t")
    for name in ("../../secret", str(secret), "missing"):
        theirs.change("best.json", assets={name: sha256(secret)})
        theirs.refuses("predict")


def test_a_bad_run_json_is_one_line(theirs: Theirs) -> None:
    for content in (b"\xff{", b"[1]", b"5"):
        (theirs.run / "run.json").write_bytes(content)
        assert "run.json" in theirs.refuses("train")


def test_a_bad_best_pt_is_one_line(theirs: Theirs) -> None:
    path = theirs.run / "best.pt"
    whole = path.read_bytes()
    script = (theirs.run / "export/model.ts").read_bytes()
    for content in (b"", b"abc", whole[:5000], script):
        path.write_bytes(content)
        assert "best.pt" in theirs.refuses("predict")
    for value in ([1], 5, {"x": 1}):
        torch.save(value, path)
        assert "best.pt" in theirs.refuses("predict")


def test_a_bad_checkpoint_is_one_line(theirs: Theirs) -> None:
    whole = torch.load(theirs.run / "checkpoints/step-00000008.pt", weights_only=True)
    parts = [
        key for key in whole if key not in ("step", "versions", "scaler")
    ]  # which nothing reads in float32
    for content in ([1], 5, *({k: v for k, v in whole.items() if k != key} for key in parts)):
        theirs.write_checkpoint(content)
        assert "step-00000008.pt" in (said := theirs.refuses("train")) or "resume=auto" in said
    for key in parts:
        theirs.write_checkpoint(whole | {key: {"a": "b"}})
        theirs.refuses("train")


def test_a_bad_metrics_csv_is_one_line(theirs: Theirs) -> None:
    for content in (b"\xff\n\xff\n", b"step\nx\n", b"step,epoch,name,value\n1,1,loss,x\n"):
        (theirs.run / "metrics.csv").write_bytes(content)
        assert "metrics.csv" in theirs.refuses("train")


def test_a_bad_model_json_or_model_is_one_line(theirs: Theirs) -> None:
    for wrong in (
        {"sample": "x"},
        {"files": {"onnx": 3}},
        {"about": 3},
        {"about": {"classes": ["0"] * 10, "shape": [1, 10**6, 10**6]}},
    ):
        theirs.change("export/model.json", **wrong)
        assert "onnx" in theirs.refuses("onnx")
        shutil.copy(theirs.project.folder / "runs/default/export/model.json", theirs.run / "export")
    for backend, file in (("onnx", "model.onnx"), ("torch-export", "model.pt2")):
        path = theirs.run / "export" / file
        path.write_bytes(b"abc")
        theirs.rename_export(backend, file, path)
        assert backend in theirs.refuses(backend)
