"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from my_project import evaluate as command
from my_project import masks, predict, seeding
from my_project.config import parse
from my_project.errors import UserError
from my_project.task import inputs, pictures
from my_project.task.data import Composed, move, open_data
from my_project.task.model import UNet
from my_project.task.objective import Objective
from my_project.task.settings import DataConfig, ModelConfig, ObjectiveConfig
from my_project.train import run
from my_project.trained import evaluate

ABOUT = {"classes": ["ground", "box"], "shape": [3, 32, 32]}
STILL = DataConfig(flip=False, shift=0, zoom=0)


@pytest.fixture
def folder(tmp_path):
    """Twenty dark images of 30x20 pixels with a bright box, and their masks."""
    root = tmp_path / "boxes"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("ground\nbox\n")
    for number in range(20):
        mask = np.zeros((20, 30), np.uint8)
        mask[5:15, number : number + 10] = 1
        Image.fromarray(mask * 200 + number).save(root / f"images/{number}.jpg")
        Image.fromarray(mask).save(root / f"masks/{number}.png")
    return root


def opened(folder, **settings):
    return open_data(DataConfig(root=folder, size=(16, 24), **settings))


def everything(source):
    return source.batch(list(range(len(source))), None)


def test_the_network_beats_a_mask_of_the_most_frequent_class(smoke, data, tmp_path):
    shares = torch.bincount(everything(data.test)["mask"].flatten()) / everything(data.test)["mask"].numel()
    baseline = (shares.max() / len(shares)).item()  # which is right about that class alone
    cfg = replace(smoke, max_steps=60, precision="fp32", num_threads=1, out_dir=tmp_path, model=ModelConfig(width=8))
    run(cfg)
    assert evaluate(tmp_path, cfg)["iou"] > baseline + 0.1
    assert baseline > 0.4
    for name in ("overlays", "iou", "curves"):
        assert (tmp_path / f"{name}.png").exists()


# ---- data


def test_splits_share_no_image_and_have_masks_of_both_classes(data):
    batches = [everything(source) for source in data[:3]]
    seen = [{image.numpy().tobytes() for image in batch["image"]} for batch in batches]
    assert len(set.union(*seen)) == sum(map(len, seen)) == sum(map(len, data[:3]))
    assert all(batch["mask"].unique().tolist() == [0, 1] for batch in batches)


def test_a_mask_moves_as_its_image_does():
    """Of an image that shows its own mask: within the edges that are blended nothing else is to be seen."""
    mask = torch.zeros(64, 32, 32, dtype=torch.uint8)
    mask[:, 4:14, 10:28] = 1
    image = mask[:, None].float()
    moved, classes = move(image, mask, seeding.sample_seeds(0, 0, [*range(64)]), DataConfig())
    assert (moved[:, 0] - classes).abs().max() <= 0.76  # a pixel between four others
    sure = (moved[:, 0] < 0.2) | (moved[:, 0] > 0.8)
    assert torch.equal(moved[:, 0][sure].round().byte(), classes[sure])
    assert len(classes.flatten(1).unique(dim=0)) > 50
    as_is, same = move(image, mask, seeding.sample_seeds(0, 0, [*range(64)]), STILL)
    torch.testing.assert_close(as_is, image)
    assert torch.equal(same, mask)


def test_a_folder_is_read_without_what_is_hidden_in_it_and_scaled(folder):
    (folder / "images/.ipynb_checkpoints").mkdir()
    for name in ("images/._1.jpg", "images/.ipynb_checkpoints/1.jpg", "masks/._1.png"):
        (folder / name).write_bytes(b"no image")
    data = opened(folder)
    assert data.about == {"classes": ["ground", "box"], "shape": [3, 16, 24]}
    assert [len(source) for source in data[:3]] == [15, 1, 4]
    batch = everything(data.train)
    assert batch["image"].shape == (15, 3, 16, 24)
    assert batch["mask"].shape == (15, 16, 24)
    bright = batch["image"].mean(1) > 0.5
    assert (bright == batch["mask"].bool()).float().mean() > 0.97  # all but the edges of boxes


def test_folders_train_and_val_are_splits_and_test_is_taken_out_of_train(folder):
    for split in ("train", "val"):
        (folder / split).mkdir()
        for name in ("images", "masks"):
            (folder / split / name).symlink_to(folder / name)
    assert [len(source) for source in opened(folder)[:3]] == [16, 20, 4]


@pytest.mark.parametrize("mode", ["L", "P", "1", "I", "I;16"])
def test_a_mask_is_read_as_numbers_whatever_its_mode(tmp_path, mode):
    numbers = np.eye(8, 6, dtype=np.uint8)
    image = Image.fromarray(numbers.astype({"1": bool, "I": np.int32, "I;16": np.uint16}.get(mode, np.uint8)))
    if mode == "P":
        image.putpalette([255, 255, 255, 0, 0, 0])
    path = tmp_path / ("mask.tif" if mode == "I" else "mask.png")
    image.save(path)
    np.testing.assert_array_equal(masks.read(path, 2), numbers)


def test_a_mask_that_was_written_is_read_as_it_was(tmp_path):
    mask = np.array([[0, 1, 20, 255]], np.uint8)
    (tmp_path / "mask.png").write_bytes(masks.encode(mask))
    np.testing.assert_array_equal(masks.read(tmp_path / "mask.png", 21), mask)
    assert masks.COLORS[[0, 1, 2, 15]].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128]]  # Pascal VOC


def of_another_size(folder):
    Image.new("L", (20, 30)).save(folder / "masks/3.png")


def of_no_class(folder):
    Image.new("L", (30, 20), 7).save(folder / "masks/3.png")


def in_colors(folder):
    Image.new("RGB", (30, 20)).save(folder / "masks/3.png")


def no_image(folder):
    (folder / "images/3.jpg").write_bytes(b"no image")


def without_mask(folder):
    (folder / "masks/3.png").unlink()


def without_image(folder):
    (folder / "images/3.jpg").unlink()


BAD = {
    of_another_size: r"masks/3\.png: this mask has 20x30 pixels, and its image .*images/3\.jpg has 30x20\. Give one",
    of_no_class: r"masks/3\.png: this mask cannot be used \(\[7\] are no classes: there are 0 to 1, and 255 for pixels",
    in_colors: r"masks/3\.png: this mask cannot be used \(its pixels are colors, RGB",
    no_image: r"images/3\.jpg: this image cannot be read",
    without_mask: r"images/3\.jpg: it has no partner of the same name.*Add what is missing, or set data\.skip_bad",
    without_image: r"masks/3\.png: it has no partner of the same name",
}


@pytest.mark.parametrize("harm", BAD, ids=lambda harm: harm.__name__)
def test_a_pair_that_cannot_be_used_is_named_and_left_out_if_asked_to(folder, caplog, harm):
    harm(folder)
    with pytest.raises(UserError, match=BAD[harm]):
        [everything(source) for source in opened(folder)[:3]]
    data = opened(folder, skip_bad=True)
    assert sum(len(everything(source)["mask"]) for source in data[:3]) == 19
    assert "1 pairs are left out" in caplog.text


def test_a_class_that_never_occurs_is_named_before_the_run_begins(folder, smoke, tmp_path):
    (folder / "classes.txt").write_text("ground\nbox\ncar\n")
    with pytest.raises(UserError, match=r"masks: class 2 \(car\) never occurs: there are \[0, 1\] in 15 masks"):
        run(replace(smoke, data=DataConfig(root=folder), out_dir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_such_folder_is_named(folder):
    (folder / "images/3.png").write_bytes((folder / "masks/3.png").read_bytes())
    with pytest.raises(UserError, match=r"images/3\.png: 3\.jpg has the same name but for its suffix"):
        opened(folder)
    (folder / "classes.txt").write_text("box\nbox\n")
    with pytest.raises(UserError, match=r"classes\.txt: give 2 to 255 classes"):
        opened(folder)
    (folder / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"classes\.txt: it cannot be used .*Put the name of a class into each line"):
        opened(folder)
    with pytest.raises(UserError, match="there is no such folder"):
        opened(folder / "elsewhere")


def test_an_image_that_its_exif_turns_has_the_size_of_its_mask(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter
    Image.new("L", (20, 30)).save(folder / "images/3.jpg", exif=exif)
    assert sum(len(everything(source)["mask"]) for source in opened(folder)[:3]) == 20


# ---- model and objective


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (33, 20), (7, 65)])
def test_images_of_any_size_give_logits_of_that_size(size):
    net = UNet(ModelConfig(width=4), channels=3, num_classes=5)
    assert net(torch.rand(2, 3, *size)).shape == (2, 5, *size)


def test_scores_are_those_of_the_confusion_matrix():
    confusion = torch.tensor([[6.0, 1, 0], [1, 2, 0], [0, 0, 0]])  # the third class is absent
    objective = Objective(ObjectiveConfig(), {"classes": ["a", "b", "c"]})
    scores = objective.scores({"confusion": confusion, "loss": torch.tensor(3.0), "images": torch.tensor(2.0)})
    assert scores["iou"] == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert scores["dice"] == pytest.approx((12 / 14 + 4 / 6) / 2)
    assert scores["accuracy"] == pytest.approx(8 / 10)
    assert scores["loss"] == pytest.approx(3 / 2)


def test_pixels_of_no_class_change_neither_loss_nor_scores():
    objective = Objective(ObjectiveConfig(), ABOUT)
    logits = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = (logits[:, 0] > 0).byte()
    mask[:, :4] = masks.IGNORED
    other = logits.clone()
    other[:, :, :4] = 9.0
    torch.testing.assert_close(objective.losses(logits, mask), objective.losses(other, mask))
    batch = {"image": torch.rand(2, 3, 8, 8), "mask": mask, "number": torch.arange(2)}
    counts = objective.measure(lambda image: logits, batch, torch.Generator())["confusion"]
    assert counts.sum() == 2 * 4 * 8
    assert objective.losses(logits, torch.full_like(mask, masks.IGNORED)).isfinite().all()


def test_a_right_mask_costs_nothing_and_a_wrong_one_as_much_whatever_the_batch():
    objective = Objective(ObjectiveConfig(), ABOUT)
    mask = torch.zeros(2, 8, 8, dtype=torch.uint8)
    mask[:, 2:6, 2:6] = 1
    right = 50 * (2 * torch.nn.functional.one_hot(mask.long(), 2) - 1).movedim(3, 1).float()
    wrong = torch.stack((right[0], -right[1]))
    assert objective.losses(right, mask).max() < 1e-6
    assert objective.losses(wrong, mask)[0] < 1e-6
    assert objective.losses(wrong, mask)[1] > 50


def test_the_picture_shows_the_first_images_of_the_split(data):
    objective, batch = Objective(ObjectiveConfig(), data.about), data.val.batch([9, 1, 0], None)
    shown = objective.measure(lambda image: torch.stack((image[:, 0], 1 - image[:, 0]), 1), batch, torch.Generator())
    assert torch.equal(shown["shown"][:2, 3], batch["mask"][[2, 1]].double())
    assert not shown["shown"][2:].any()
    assert pictures.draw(shown, data.about).keys() == {"overlays", "iou"}


# ---- commands


@pytest.fixture
def image(data, tmp_path):
    """The file of an image, and its pixels as bytes."""
    pixels = inputs.from_batch(data.test.batch([0], None))["images"][0]
    Image.fromarray(pixels.transpose(1, 2, 0).copy()).save(tmp_path / "image.png")
    return tmp_path / "image.png", pixels


def test_predict_writes_a_mask_for_each_image_of_files_folders_and_arrays(trained, image, command_line, capsys):
    file, pixels = image
    np.save(file.parent / "some.npy", np.stack([pixels] * 2))
    command_line(
        "--run", trained.out_dir, file, file.parent, file.parent / "some.npy", "--to", file.parent.parent / "to"
    )
    predict.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [Path(line["mask"]).name for line in lines]
    assert names == ["image.png", "image-2.png", "some[0].png", "some[1].png"]
    [first, *others] = [masks.read(line["mask"], 2) for line in lines]
    assert all((other == first).all() for other in others)
    assert lines[0]["shares"]["digit"] == pytest.approx((first == 1).mean(), abs=1e-6)
    assert set(lines[0]) == {"input", "mask", "shares", "confidence"}


def test_predict_writes_over_no_image(trained, image, command_line):
    for to in (image[0].parent, image[0].parent / "below"):
        command_line("--run", trained.out_dir, image[0].parent, "--to", to)
        with pytest.raises(SystemExit, match="inputs may lie there"):
            predict.main()


def test_a_run_on_a_folder_is_evaluated_with_the_size_it_was_trained_with(
    smoke, folder, tmp_path, command_line, capsys
):
    cfg = replace(
        smoke, data=DataConfig(root=folder, size=(20, 28), batch_size=4), max_steps=4, out_dir=tmp_path / "run"
    )
    run(cfg)
    command_line("--run", cfg.out_dir)
    command.main()
    assert "test/iou" in capsys.readouterr().out
    command_line("--run", cfg.out_dir, "--data.size", "[16, 16]")
    with pytest.raises(SystemExit, match="trained on other data"):
        command.main()


def test_settings_of_the_task_are_read(command_line):
    command_line("--data.size", "[48, 64]", "--data.zoom", "0.3")
    cfg, _ = parse("train")
    assert (cfg.data.size, cfg.data.zoom) == ((48, 64), 0.3)


def test_a_source_on_another_device_gives_the_same(data):
    moved = data.train.to(torch.device("cpu"))
    assert isinstance(moved, Composed)
    assert torch.equal(moved.batch([3], None)["image"], data.train.batch([3], None)["image"])
