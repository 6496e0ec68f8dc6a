"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from my_project import images, predict
from my_project.config import parse
from my_project.errors import UserError
from my_project.task.data import open_data
from my_project.task.model import Net
from my_project.task.objective import Objective
from my_project.task.settings import (
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
)
from my_project.train import run
from my_project.trained import evaluate


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten images each."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            pixels = random.integers(0, 255, (9, 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def everything(source):
    """All images and labels of a source, as they are."""
    batch = source.batch(list(range(len(source))), None)
    return batch["image"].flatten(1).numpy(), batch["label"].numpy()


def test_the_network_beats_the_nearest_mean_image(smoke, data, tmp_path):
    (pixels, labels), (own, classes) = everything(data.test), everything(data.train)
    means = np.stack([own[classes == label].mean(axis=0) for label in range(10)])
    baseline = (np.linalg.norm(pixels[:, None] - means, axis=2).argmin(axis=1) == labels).mean()
    cfg = replace(smoke, max_steps=160, precision="fp32", num_threads=1, out_dir=tmp_path, model=ModelConfig(width=16))
    run(cfg)
    assert evaluate(tmp_path, cfg)["accuracy"] > baseline > 0.5


def test_the_splits_share_no_image_and_hold_every_class(data):
    splits = (data.train, data.val, data.test)
    assert sum(map(len, splits)) == 1797
    assert all({*everything(split)[1]} == {*range(10)} for split in splits)


def test_training_images_move_by_as_much_as_asked():
    seeds = torch.arange(100)
    still, moved = (open_data(DataConfig(shift=shift)).train.batch([7] * 100, seeds)["image"] for shift in (0.0, 0.125))
    center = still[0].flatten().sum()
    assert torch.equal(still, still[:1].expand_as(still))
    assert len(moved.flatten(1).unique(dim=0)) > 90
    assert (moved.flatten(1).sum(1) <= center * 1.01).all()  # what leaves on one side does not come back on the other


def test_a_folder_of_images_per_class_is_read_without_what_is_hidden_in_it(folder):
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "cat" / "._0.png").write_bytes(b"no image")
    data = open_data(DataConfig(root=folder))
    assert data.about == {"classes": ["cat", "dog"], "shape": [3, 64, 64]}
    assert len(data.train) + len(data.val) + len(data.test) == 20


def test_folders_train_and_val_are_splits_and_test_is_taken_out_of_train(folder):
    for split in ("train", "val"):
        shutil.copytree(folder, folder.parent / "splits" / split)
    data = open_data(DataConfig(root=folder.parent / "splits"))
    assert data.about["classes"] == ["cat", "dog"]
    assert [len(data.train), len(data.val), len(data.test)] == [17, 20, 3]


@pytest.mark.parametrize(
    ("mode", "mean"), [("1", 128), ("L", 128), ("I;16", 128), ("F", 128), ("LA", 191), ("RGBA", 191), ("CMYK", 128)]
)
def test_an_image_of_any_mode_is_scaled_to_bytes_on_white(tmp_path, mode, mean):
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 255
    image = Image.fromarray(half)
    if mode in ("I;16", "F"):
        image = Image.fromarray(half.astype("uint16") * 257 if mode == "I;16" else half.astype("float32") / 255)
    elif mode.endswith("A"):  # as much of the black half as of the white one is transparent
        image = Image.merge(mode, [image] * (len(mode) - 1) + [Image.fromarray(half.T)])
    else:
        image = image.convert("RGB").convert(mode)
    image.save(tmp_path / "image.tif")
    assert round(images.read(tmp_path / "image.tif", (3, 8, 8)).mean()) == mean


def test_an_image_of_which_nothing_says_what_is_white_is_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 255, np.int32)).save(tmp_path / "image.tif")
    with pytest.raises(UserError, match=r"image\.tif: this image cannot be read .*what is white"):
        images.read(tmp_path / "image.tif", (3, 8, 8))


def test_images_that_cannot_be_read_are_left_out_and_counted_if_asked_to(folder, caplog):
    (folder / "dog" / "3.png").write_bytes(b"no image")
    data = open_data(DataConfig(root=folder, skip_bad=True))
    assert len(data.train) + len(data.val) + len(data.test) == 19
    assert "1 of 10 images are left out" in caplog.text
    assert "3.png" in caplog.text


def test_a_folder_that_cannot_be_trained_on_is_named(folder):
    with pytest.raises(UserError, match="no such folder"):
        open_data(DataConfig(root=folder / "missing"))
    (folder / "dog" / "3.png").write_bytes(b"no image")
    data = open_data(DataConfig(root=folder))
    sources = (data.train, data.val, data.test)
    with pytest.raises(UserError, match=r"3\.png: this image cannot be read"):
        [everything(source) for source in sources]
    (folder / "a").mkdir()
    with pytest.raises(UserError, match="a: this folder has no images"):
        open_data(DataConfig(root=folder))


def test_wrong_data_leave_no_folder_behind(small, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        run(replace(small, data=replace(small.data, root=tmp_path / "missing")))
    assert not small.out_dir.exists()


@pytest.mark.parametrize("size", [4, 8, 33])
def test_images_of_any_size_give_one_logit_per_class(size):
    net = Net(ModelConfig(width=8), channels=1, num_classes=10)
    assert net(torch.rand(2, 1, size, size)).shape == (2, 10)


def test_a_checkpoint_of_another_model_is_refused_before_anything_changes(small):
    run(small)
    before = (small.out_dir / "config.yaml").read_text()
    with pytest.raises(UserError, match="another model"):
        run(replace(small, resume="auto", max_steps=25, model=ModelConfig(width=16)))
    assert (small.out_dir / "config.yaml").read_text() == before


def test_a_share_that_means_nothing_is_refused(command_line, capsys):
    command_line("--model.dropout", "1.5")
    with pytest.raises(SystemExit):
        parse("train")
    assert "less than 1" in capsys.readouterr().err


def test_scores_are_those_of_the_confusion_matrix():
    confusion = torch.tensor([[3.0, 1, 0], [0, 2, 0], [0, 0, 0]])  # the third class is absent
    objective = Objective(ObjectiveConfig(), {"classes": ["a", "b", "c"]})
    scores = objective.scores({"confusion": confusion, "loss": torch.tensor(3.0)})
    assert scores["accuracy"] == pytest.approx(5 / 6)
    assert scores["f1"] == pytest.approx((6 / 7 + 4 / 5) / 2)
    assert scores["loss"] == pytest.approx(1 / 2)


@pytest.fixture
def digit(trained, data, tmp_path):
    """The file of a handwritten digit, and its pixels [8, 8] as bytes."""
    pixels = (data.test.batch([0], None)["image"][0, 0] * images.WHITE).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    return tmp_path / "digit.png", pixels


def test_predict_takes_files_folders_and_arrays(trained, digit, command_line, capsys):
    file, pixels = digit
    np.save(file.parent / "bytes.npy", pixels)
    np.save(file.parent / "numbers.npy", np.stack([pixels / 255] * 2))
    command_line("--run", trained.out_dir, file, file.parent, file.parent / "bytes.npy", file.parent / "numbers.npy")
    predict.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 5
    assert {line["index"] for line in lines} == {lines[0]["index"]}
    assert set(lines[0]) == {"input", "label", "index", "probability"}


@pytest.mark.parametrize(("name", "reason"), [("missing.png", "No such file"), ("text.png", "cannot be read")])
def test_predict_names_a_file_it_cannot_read(trained, tmp_path, command_line, name, reason):
    (tmp_path / "text.png").write_text("no image")
    command_line("--run", trained.out_dir, tmp_path / name)
    with pytest.raises(SystemExit, match=reason):
        predict.main()
