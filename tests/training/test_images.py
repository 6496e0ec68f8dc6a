"""Images are read rightly or refused by name, and as one thing by training, predict and the service."""

import base64
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Say
from tests.support.images import KINDS, Kind
from tests.support.projects import FRAMEWORKS, Project, by_framework, rendered, write
from tests.support.proofs import once
from tests.support.releases import ROOT
from tests.support.services import serving

READERS = ("in_training", "in_predict", "in_service")
QUICK = ("--model.width", "4", "--max_steps", "2", "--data.batch_size", "4")

GetProject = Callable[[str], Project]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> GetProject:
    @once
    def make(framework: str) -> Project:
        made = rendered({"framework": framework, "loggers": [], "serving": "fastapi"})
        return Project(write(made, tmp_path_factory.mktemp(framework)), "my_project")

    return make


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind of image, with enough copies of it to train on, and another class."""
    folder = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        content = kind.make()
        for number in range(8):
            save(folder / kind.name / "other" / f"{number}.png")
            path = folder / kind.name / "seen" / f"{number}{Path(kind.name).suffix}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def readings(project: GetProject, files: Path) -> dict[str, Any]:
    script = ROOT / "tests/support/image_readings.py"
    told: dict[str, Any] = json.loads(project(FRAMEWORKS[0]).run_fork(script, "my_project", files))
    return told


@once
def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8))


def save(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(seed).save(path)


def classes(root: Path, *names: str, copies: int = 10) -> Path:
    """A folder of images per class."""
    for name in names:
        for number in range(copies):
            save(root / name / f"{number}.png", number)
    return root


def add_rubbish(folder: Path) -> None:
    """What systems and tools leave in folders of images."""
    for name in (".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/1.png", "@eaDir/0.png/THUMB.jpg"):
        save(folder / name)
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"no image")


def add_bad(folder: Path) -> list[Path]:
    """Images that are cut off, empty, too large and no image at all, in the order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    bad = [folder / name for name in ("cut.png", "empty.jpg", "huge.png", "text.png")]
    save(bad[0])
    bad[0].write_bytes(bad[0].read_bytes()[:100])
    bad[1].touch()
    Image.new("1", (20_000, 20_000)).save(bad[2])
    bad[3].write_text("no image")
    return bad


def load(project: Project, *roots: Path) -> list[Any]:
    """What `load_images` makes of folders: [classes, sizes of train, val and test], or what it says."""
    script = """
import json, sys
from pathlib import Path
from my_project import config, data
for root in sys.argv[1:]:
    try:
        images = data.load_images(config.DataConfig(root=Path(root)))
        print(json.dumps([images.classes, len(images.train), len(images.val), len(images.test)]))
    except config.UserError as error:
        print(json.dumps(str(error)))
"""
    return [json.loads(line) for line in project.run_fork("-c", script, *roots).splitlines()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_mode_is_read_rightly_or_refused_by_name_alike_everywhere(
    readings: dict[str, Any], kind: Kind, say: Say
) -> None:
    """Mean, least and largest byte; the table is printed."""
    read = readings[kind.name]
    if kind.mode:
        assert Image.open(io.BytesIO(kind.make())).mode == kind.mode
    if kind.refused:
        for reader in READERS[:2]:
            assert kind.refused in read[reader], read
            assert f"0{Path(kind.name).suffix}: this image cannot be read" in read[reader]
        assert read["in_service"] == "inputs[0]: no image"  # of the file itself it says nothing
        say(f"{kind.name:24} {kind.mode:6} refused: {kind.refused}")
        return
    for reader in READERS:
        np.testing.assert_allclose(
            read[reader], [kind.mean, kind.low, kind.high], rtol=0, atol=1, err_msg=reader
        )
    assert read["alike"]
    cells = (f"{mean:6.1f} {low:3}..{high}" for mean, low, high in (read[reader] for reader in READERS))
    say(f"{kind.name:24} {kind.mode:6} {'  '.join(cells)}")


def test_ordinary_images_and_their_splits_are_to_the_bit_what_they_were(
    project: GetProject, tmp_path: Path
) -> None:
    """As release 0.7.2 read and split them; with opacity that hides nothing, too."""
    script = """
import sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from my_project import config, data

def check(root, images, labels):
    options = {"test_size": 0.15, "random_state": 0}
    rest, test = train_test_split(np.arange(len(labels)), stratify=labels, **options)
    train, val = train_test_split(rest, stratify=labels[rest], **options)
    read = data.load_images(config.DataConfig(root=root))
    for part, split in zip((train, val, test), read[:3]):
        assert torch.equal(split.tensors[0], images[part])
        assert torch.equal(split.tensors[1], labels[part])

root = Path(sys.argv[1])
paths = [sorted((root / name).rglob("*.*")) for name in ("cat", "dog")]
images = [np.array(Image.open(path).convert("RGB").resize((64, 64))) for path in sum(paths, [])]
images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
check(root, images, torch.tensor([0] * len(paths[0]) + [1] * len(paths[1])))
digits = load_digits()
images = torch.tensor(digits.images * (255 / 16)).byte().unsqueeze(1)
check(None, images, torch.tensor(digits.target))
"""
    for name in ("cat", "dog/young", "dog"):
        for number, mode in enumerate(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "RGB", "L", "RGB")):
            suffix = ("png", "jpg", "webp")[number // 6] if mode != "CMYK" else "jpg"
            path = tmp_path / name / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(number).convert(mode).save(path)
    project(FRAMEWORKS[0]).run_fork("-c", script, tmp_path)


def test_folders_train_val_and_test_are_the_splits(project: GetProject, tmp_path: Path) -> None:
    """One that is missing is taken out of train; classes may be called so beside others."""
    whole = {"train": 20, "val": 5, "test": 3}
    given = [("train", "val", "test"), ("train", "val"), ("train", "test"), ("train",)]
    for number, splits in enumerate(given):
        for split in splits:
            classes(tmp_path / str(number) / split, "cat", "dog", copies=whole[split])
    classes(tmp_path / "named", "car", "test", "train", "val")
    told = load(project(FRAMEWORKS[0]), *(tmp_path / str(number) for number in range(4)), tmp_path / "named")
    names = ["cat", "dog"]
    assert told[0] == [names, 40, 10, 6]
    assert told[1] == [names, 34, 10, 6]
    assert told[2] == [names, 34, 6, 6]
    assert told[3] == [names, 28, 6, 6]
    assert told[4][0] == ["car", "test", "train", "val"]


def test_what_is_hidden_or_left_by_systems_and_tools_is_no_data(project: GetProject, tmp_path: Path) -> None:
    clean = classes(tmp_path / "clean", "cat", "dog")
    littered = classes(tmp_path / "littered", "cat", "dog")
    for folder in (littered, littered / "cat", littered / "dog"):
        add_rubbish(folder)
    as_is, same = load(project(FRAMEWORKS[0]), clean, littered)
    assert as_is == same == [["cat", "dog"], 14, 3, 3]


def test_a_folder_that_cannot_be_trained_on_is_named_in_a_line(project: GetProject, tmp_path: Path) -> None:
    """Each is wrong in one way."""
    roots = {
        name: classes(tmp_path / name, "cat", "dog") for name in ("one", "empty", "like", "code", "late")
    }
    classes(roots["one"], "single", copies=1)
    (roots["empty"] / "nothing").mkdir()
    (roots["like"] / "cat" / "folder.png").mkdir()
    classes(roots["code"], os.fsdecode(b"caf\xe9"))
    reasons = {
        "one": r"single, which has the fewest, has 1 left",
        "empty": r"nothing: this folder has no images",
        "like": r"folder\.png: this image cannot be read .*directory",
        "code": r"names of folders are not in UTF-8: \['caf\\udce9'\]",
        "valid": r"or train, val and test of such folders",
        "flat": r"flat/val: its folders have to be classes .* and are \[\]",
        "other": r"other/val: its folders have to be classes .* and are \['bird', 'cat'\]",
    }
    for name, other in (("valid", "valid"), ("flat", "val"), ("other", "val")):
        roots[name] = tmp_path / name
        classes(roots[name] / "train", "cat", "dog")
        classes(roots[name] / other, *(("bird", "cat") if name == "other" else ()))
        save(roots[name] / other / "0.png")
    told = load(project(FRAMEWORKS[0]), *(roots[name] for name in reasons))
    for error, (name, reason) in zip(told, reasons.items(), strict=True):
        assert isinstance(error, str), (name, error)
        assert re.search(reason, error), error
        assert "\n" not in error


@by_framework()
def test_a_bad_image_is_named_in_a_line_before_anything_is_written(
    project: GetProject, tmp_path: Path, framework: str
) -> None:
    ours = project(framework)
    for bad in add_bad(tmp_path / "bad"):
        root = classes(tmp_path / bad.stem, "cat", "dog")
        bad.rename(root / "dog" / bad.name)
        done = ours.start_fork("-m", "my_project.train", "--data.root", root, "--out_dir", tmp_path / "run")
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith(f"error: {root / 'dog' / bad.name}: this image cannot be read (")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()


@pytest.mark.cold
def test_bad_images_of_a_littered_folder_with_splits_are_left_out_and_counted(
    project: GetProject, tmp_path: Path
) -> None:
    """As a user runs it; evaluate and predict of both frameworks take the same settings."""
    root, run = tmp_path / "images", tmp_path / "run"
    for split in ("train", "val"):
        classes(root / split, "cat", "dog", copies=9)
        add_rubbish(root / split / "cat")
    add_rubbish(root)
    bad = add_bad(root / "train" / "cat" / "deeper")
    settings = ("--data.root", root, "--out_dir", run, *QUICK)
    ours = project(FRAMEWORKS[0])

    refused = ours.start_fork("-m", "my_project.train", *settings)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {bad[0]}: this image cannot be read (")
    assert not run.exists()
    trained = ours.start("-m", "my_project.train", *settings, "--data.skip_bad", "true")
    assert trained.returncode == 0, trained.stderr
    names = ", ".join(repr(str(path)) for path in bad)
    assert f"4 of 13 images are left out, as they cannot be read: [{names}]" in trained.stderr
    assert json.loads((run / "best.json").read_text())["classes"] == ["cat", "dog"]

    for other in FRAMEWORKS:  # each reads the other's weights
        evaluated = project(other).start_fork("-m", "my_project.evaluate", "--run", run)
        assert "test/accuracy" in evaluated.stdout, evaluated.stderr
        predicted = project(other).start_fork("-m", "my_project.predict", "--run", run, root / "train/cat")
        assert f"[{names}]" in predicted.stderr
        assert len(predicted.stdout.splitlines()) == 9
    strict = ours.start_fork("-m", "my_project.predict", "--run", run, bad[0])  # named by itself
    assert strict.returncode == 1
    assert strict.stderr.startswith(f"error: {bad[0]}: ")


@pytest.mark.cold
def test_an_image_of_any_mode_gets_the_same_answer_of_predict_and_of_the_service(
    project: GetProject, tmp_path: Path, files: Path
) -> None:
    ours, run = project(FRAMEWORKS[0]), tmp_path / "run"
    read = [files / kind.name / "seen" / f"0{Path(kind.name).suffix}" for kind in KINDS if not kind.refused]
    refused = [files / kind.name / "seen" / f"0{Path(kind.name).suffix}" for kind in KINDS if kind.refused]
    other = [tmp_path / f"image.{suffix}" for suffix in ("ppm", "ico", "jp2", "pdf", "tga")]
    for path in other:
        noise().save(path)
    disguised = [path.rename(path.with_suffix(".png")) if path.suffix == ".ppm" else path for path in other]
    ours.run_fork("-m", "my_project.train", "--data.root", files / "RGB.png", "--out_dir", run, *QUICK)
    told = ours.run("-m", "my_project.predict", "--run", run, *read).splitlines()
    assert [json.loads(line).pop("input") for line in told] == [str(path) for path in read]
    with serving(ours, run, "--backend", "plain") as live:

        def ask(*paths: Path) -> tuple[int, Any]:
            inputs = [base64.b64encode(path.read_bytes()).decode() for path in paths]
            return live.ask("/predict", json.dumps({"inputs": inputs}).encode())

        status, answer = ask(*read)
        assert status == 200, answer
        for line, given in zip(told, answer["predictions"], strict=True):
            expected = json.loads(line)
            assert given["label"] == expected["label"], line
            assert abs(given["probability"] - expected["probability"]) <= 1e-5, line
        for path in [*refused, *disguised]:
            assert ask(path)[0] == 422, path


@by_framework()
def test_settings_in_another_encoding_are_named_in_a_line(
    project: GetProject, tmp_path: Path, framework: str
) -> None:
    (tmp_path / "latin-1.yaml").write_bytes(b"seed: 1  # caf\xe9\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_bytes(b"out_dir: caf\xe9\n")
    ours, settings, run = project(framework), tmp_path / "latin-1.yaml", tmp_path / "run"
    given = ours.start_fork("-m", "my_project.train", "--config", settings)
    assert given.returncode == 2, given.stderr
    assert f"--config {settings}: these settings are not in UTF-8 (" in given.stderr
    found = ours.start_fork("-m", "my_project.predict", "--run", run, "0.png")
    assert found.returncode == 1, found.stderr
    assert found.stderr.startswith(f"error: {run / 'config.yaml'}: it cannot be used (")
    assert given.stderr.count("\n") == found.stderr.count("\n") == 1
