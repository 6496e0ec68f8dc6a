"""Images are read rightly or refused by name, and as one thing by training, predict and the service."""

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

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
    """What folders hold: [classes, sizes of train, val and test], once all is read, or what is said."""
    script = """
import json, sys
from pathlib import Path
from my_project.errors import UserError
from my_project.task.data import open_data
from my_project.task.settings import DataConfig
for root in sys.argv[1:]:
    try:
        *splits, about, _ = open_data(DataConfig(root=Path(root)))
        for source in splits:
            source.batch([*range(len(source))], None)
        print(json.dumps([about["classes"], *map(len, splits)]))
    except UserError as error:
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
            assert f"{Path(kind.name).suffix}: this image cannot be read" in read[reader]
        assert (
            read["in_service"] == "inputs[0]: it cannot be decoded in 48 MB"
        )  # of the file itself it says nothing
        say(f"{kind.name:24} {kind.mode:6} refused: {kind.refused}")
        return
    for reader in READERS:
        np.testing.assert_allclose(
            read[reader], [kind.mean, kind.low, kind.high], rtol=0, atol=1, err_msg=reader
        )
    assert read["alike"]
    cells = (f"{mean:6.1f} {low:3}..{high}" for mean, low, high in (read[reader] for reader in READERS))
    say(f"{kind.name:24} {kind.mode:6} {'  '.join(cells)}")


def test_ordinary_images_are_to_the_bit_what_they_were(project: GetProject, tmp_path: Path) -> None:
    """As release 0.7.2 read them, and split the digits; with opacity that hides nothing, too."""
    script = """
import sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from my_project import splits
from my_project.task.data import open_data
from my_project.task.settings import DataConfig

def check(root, images, labels, parts):
    for part, split in zip(parts, open_data(DataConfig(root=root))[:3], strict=False):
        batch = split.batch([*range(len(split))], None)
        assert torch.equal(batch["image"], images[part] / 255)
        assert torch.equal(batch["label"], labels[part])

root = Path(sys.argv[1])
paths = [sorted((root / name).rglob("*.*")) for name in ("cat", "dog")]
images = [np.array(Image.open(path).convert("RGB").resize((64, 64))) for path in sum(paths, [])]
images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
labels = torch.tensor([0] * len(paths[0]) + [1] * len(paths[1]))
names = [path.relative_to(root).as_posix() for path in sum(paths, [])]
check(root, images, labels, splits.split(names, 0, 0))
digits = load_digits()
images = torch.tensor(digits.images * (255 / 16)).byte().unsqueeze(1)
labels, options = torch.tensor(digits.target), {"test_size": 0.15, "random_state": 0}
rest, test = train_test_split(np.arange(len(labels)), stratify=labels, **options)
train, val = train_test_split(rest, stratify=labels[rest], **options)
check(None, images, labels, (train, val, test))
"""
    for name in ("cat", "dog/young", "dog"):
        for number, mode in enumerate(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "RGB", "L", "RGB")):
            suffix = ("png", "jpg", "webp")[number // 6] if mode != "CMYK" else "jpg"
            path = tmp_path / name / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(number).convert(mode).save(path)
    project(FRAMEWORKS[0]).run_fork("-c", script, tmp_path)


UPRIGHT = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from my_project import config
from my_project.task import data, inputs as task
from my_project.serving import inputs, settings

model = SimpleNamespace(about={"shape": data.FOLDER_SHAPE})
reader = inputs.Reader(lambda: model, settings.Settings())
for root in sorted(Path(sys.argv[1]).iterdir()):
    source = data.open_data(config.DataConfig(root=root)).train
    trained = task.from_batch(source.batch([source.labels.tolist().index(1)], None))
    path = min((root / "seen").iterdir())
    ((_, predicted),) = task.read(str(path), model.about, config.DataConfig())
    served = reader.decode([path.read_bytes()], model.about)[0]
    told = [trained["images"][0], predicted["images"], served["images"]]
    corners = [[int(image[0, row, column]) // 100 for row in (0, -1) for column in (0, -1)] for image in told]
    print(json.dumps([root.name, corners]))
"""


def turned(number: int) -> Image.Image:
    """A picture whose quarters are white, grey, white and black, as it is stored with EXIF's orientation."""
    upright = np.zeros((64, 64, 3), np.uint8)
    upright[:32, :32] = upright[:32, 32:] = upright[32:, :32] = 255
    upright[:32, 32:] = 150
    transposed = upright.transpose(1, 0, 2)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: transposed,
        6: transposed[::-1],
        7: transposed[::-1, ::-1],
        8: transposed[:, ::-1],
    }
    return Image.fromarray(np.ascontiguousarray(stored[number]))


def test_an_image_is_turned_as_its_exif_says_and_alike_everywhere(
    project: GetProject, tmp_path: Path
) -> None:
    """Of each of the eight orientations; EXIF that cannot be read turns nothing and refuses nothing."""
    for suffix in ("jpg", "png", "webp", "tif"):
        for number in range(1, 9):
            root = classes(tmp_path / f"{suffix}-{number}", "other")
            exif = Image.Exif()
            exif[0x0112] = number
            (root / "seen").mkdir()
            for copy in range(10):
                turned(number).save(root / f"seen/{copy}.{suffix}", exif=exif)
    root = classes(tmp_path / "damaged", "other")
    (root / "seen").mkdir()
    damaged = PngImagePlugin.PngInfo()
    damaged.add_text("Raw profile type exif", "\nexif\n 4\nno numbers\n")
    for copy in range(10):
        turned(1).save(root / f"seen/{copy}.png", pnginfo=damaged)
    for line in project(FRAMEWORKS[0]).run_fork("-c", UPRIGHT, tmp_path).splitlines():
        name, corners = json.loads(line)
        assert corners == [[2, 1, 2, 0]] * 3, name


def test_every_suffix_that_pillow_gives_a_format_is_read(project: GetProject, tmp_path: Path) -> None:
    script = """
from PIL import Image
from my_project import images
known = {suffix for suffix, form in Image.registered_extensions().items() if form in images.FORMATS}
print(*sorted(known), "|", *sorted(images.SUFFIXES))
"""
    known, _, ours = project(FRAMEWORKS[0]).run_fork("-c", script).strip().partition(" | ")
    assert known == ours
    root = classes(tmp_path / "images", "cat", "dog")
    for number, path in enumerate(sorted((root / "cat").iterdir())):
        noise(number).save(path.with_suffix(".jpg"))
        path.with_suffix(".jpg").rename(path.with_suffix((".jfif", ".jpe", ".JPE", ".Jfif")[number % 4]))
        path.unlink()
    assert load(project(FRAMEWORKS[0]), root) == [[["cat", "dog"], 16, 2, 2]]


def test_links_to_folders_are_followed_but_not_in_circles(project: GetProject, tmp_path: Path) -> None:
    root = classes(tmp_path / "root", "cat", "dog")
    for number in range(10):
        save(tmp_path / "disk/more" / f"{number}.png", 50 + number)
        save(tmp_path / "disk/tail" / f"{number}.png", 70 + number)
    (root / "cat/more").symlink_to(tmp_path / "disk/more")
    (root / "dog/deep").mkdir()
    (root / "dog/deep/tail").symlink_to(tmp_path / "disk/tail")
    for link, target in (
        (root / "cat/up", root),
        (root / "cat/self", root / "cat"),
        (tmp_path / "disk/more/back", root / "cat"),
        (tmp_path / "disk/tail/there", tmp_path / "disk/tail"),
    ):
        link.symlink_to(target)
    ours = project(FRAMEWORKS[0])
    assert load(ours, root) == [[["cat", "dog"], 31, 5, 4]]

    (root / "cat/gone").symlink_to(tmp_path / "unmounted")
    (root / "dog/loop").symlink_to(root / "dog/loop")
    (told,) = load(ours, root)
    assert f"{root / 'cat/gone'}: this image cannot be read ([Errno 2] No such file" in told
    (root / "cat/gone").unlink()
    (told,) = load(ours, root)
    assert re.search(r"dog/loop: this image cannot be read \(.*levels of symbolic links", told), told


@pytest.mark.skipif(os.geteuid() == 0, reason="Nothing is closed to root.")
def test_a_folder_that_may_not_be_read_is_named(project: GetProject, tmp_path: Path) -> None:
    root = classes(tmp_path / "root", "cat", "dog")
    save(root / "cat/closed/0.png")
    (root / "cat/closed").chmod(0)
    try:
        (told,) = load(project(FRAMEWORKS[0]), root)
    finally:
        (root / "cat/closed").chmod(0o700)
    assert told.startswith(f"{root / 'cat/closed'}: it cannot be used (Permission denied)")


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
    assert told[1] == [names, 33, 10, 7]
    assert told[2] == [names, 33, 7, 6]
    assert told[3] == [names, 27, 6, 7]
    assert told[4][0] == ["car", "test", "train", "val"]


def test_what_is_hidden_or_left_by_systems_and_tools_is_no_data(project: GetProject, tmp_path: Path) -> None:
    clean = classes(tmp_path / "clean", "cat", "dog")
    littered = classes(tmp_path / "littered", "cat", "dog")
    for folder in (littered, littered / "cat", littered / "dog"):
        add_rubbish(folder)
    as_is, same = load(project(FRAMEWORKS[0]), clean, littered)
    assert as_is == same == [["cat", "dog"], 15, 2, 3]


def test_a_folder_that_cannot_be_trained_on_is_named_in_a_line(project: GetProject, tmp_path: Path) -> None:
    """Each is wrong in one way."""
    roots = {
        name: classes(tmp_path / name, "cat", "dog") for name in ("few", "empty", "like", "code", "late")
    }
    classes(roots["few"] / "train", "cat", "dog", copies=1)
    for name in ("cat", "dog"):
        shutil.rmtree(roots["few"] / name)
    (roots["empty"] / "nothing").mkdir()
    (roots["like"] / "cat" / "folder.png").mkdir()
    classes(roots["code"], os.fsdecode(b"caf\xe9"))
    reasons = {
        "few": r"data: 2 samples are too few for train, val and test: they would have 0, 1 and 1\. Add some",
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
def test_a_bad_image_is_named_in_a_line_by_whatever_process_reads_it(
    project: GetProject, tmp_path: Path, framework: str
) -> None:
    ours = project(framework)
    for number, bad in enumerate(add_bad(tmp_path / "bad")):
        root = tmp_path / bad.stem
        for split in ("train", "val", "test"):
            classes(root / split, "cat", "dog", copies=4)
        bad.rename(root / "train/dog" / bad.name)
        workers = ("--data.num_workers", str(number % 2), "--out_dir", tmp_path / bad.stem / "run")
        done = ours.start_fork("-m", "my_project.train", "--data.root", root, *QUICK, *workers)
        assert done.returncode == 1, done.stderr
        *_, said = done.stderr.splitlines()
        assert said.startswith(f"error: {root / 'train/dog' / bad.name}: this image cannot be read (")
        assert done.stderr.count("\n") == 2  # the first says that PyTorch is being loaded


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
    assert any(f"error: {path}: this image cannot be read (" in refused.stderr for path in bad)
    run = tmp_path / "again"
    skips = ("--data.skip_bad", "true", "--out_dir", run)
    trained = ours.start("-m", "my_project.train", *settings, *skips)
    assert trained.returncode == 0, trained.stderr
    names = ", ".join(repr(str(path)) for path in bad)
    assert f"4 of 13 images are left out, as they cannot be read: [{names}]" in trained.stderr
    assert json.loads((run / "best.json").read_text())["about"]["classes"] == ["cat", "dog"]

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
