import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from my_project.config import (
    Config,
    DataConfig,
    UserError,
)
from my_project.data import (
    TrainBatches,
    build_eval_loader,
    build_loaders,
    load_image,
    load_images,
)
from my_project.progress import START, Progress


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


def test_the_splits_share_no_image_and_hold_every_class():
    images = load_images(DataConfig())
    splits = (images.train, images.val, images.test)
    assert sum(map(len, splits)) == 1797
    assert all(len(split.tensors[1].unique()) == 10 for split in splits)


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return list(TrainBatches(Progress(500, Config(seed=seed), START | {"epoch": epoch})))

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_a_resumed_epoch_goes_on_where_it_stopped():
    whole, resumed = (
        TrainBatches(Progress(500, Config(), START | {"epoch": 1, "samples": samples})) for samples in (0, 3 * 64)
    )
    assert list(resumed) == list(whole)[3:]


def test_an_epoch_that_goes_on_with_other_batches_takes_the_samples_that_are_left():
    whole = [index for indices, _ in TrainBatches(Progress(500, Config())) for index in indices]
    smaller = Config(data=DataConfig(batch_size=16))
    rest = [index for indices, _ in TrainBatches(Progress(500, smaller, START | {"samples": 64})) for index in indices]
    assert rest[: len(whole) - 64] == whole[64:]
    assert len(rest) == (500 - 64) // 16 * 16


def test_all_processes_together_see_each_image_once(monkeypatch):
    split = load_images(DataConfig()).val
    monkeypatch.setenv("WORLD_SIZE", "3")
    seen, num_batches = [], set()
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        loader = build_eval_loader(split, Config())
        seen += [index for batch in loader.sampler for index in batch]
        num_batches.add(len(loader))
    assert sorted(seen) == list(range(len(split)))
    assert len(num_batches) == 1


def test_augmentation_is_the_same_in_any_worker_and_on_a_gpu():
    images = load_images(DataConfig())
    cfg = Config(data=DataConfig(batch_size=400))
    with_workers = replace(cfg, data=replace(cfg.data, num_workers=2))
    gpu = torch.cuda.is_available()  # without workers the images are kept there
    at = Progress(len(images.train), cfg)
    for ours, theirs in zip(*(build_loaders(images, c, at)[0] for c in (cfg, with_workers)), strict=True):
        assert ours[0].is_cuda == gpu
        torch.testing.assert_close(ours[0].cpu(), theirs[0], rtol=0, atol=1e-5 if gpu else 0)


def test_a_folder_of_images_per_class_is_read_without_what_is_hidden_in_it(folder):
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "cat" / "._0.png").write_bytes(b"no image")
    images = load_images(DataConfig(root=folder))
    assert images.classes == ["cat", "dog"]
    assert images.shape == (3, 64, 64)


def test_folders_train_and_val_are_splits_and_test_is_taken_out_of_train(folder):
    for split in ("train", "val"):
        shutil.copytree(folder, folder.parent / "splits" / split)
    images = load_images(DataConfig(root=folder.parent / "splits"))
    assert images.classes == ["cat", "dog"]
    assert [len(images.train), len(images.val), len(images.test)] == [17, 20, 3]


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
    assert round(load_image(tmp_path / "image.tif", (3, 8, 8)).double().mean().item()) == mean


def test_an_image_of_which_nothing_says_what_is_white_is_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 255, np.int32)).save(tmp_path / "image.tif")
    with pytest.raises(UserError, match=r"image\.tif: this image cannot be read .*what is white"):
        load_image(tmp_path / "image.tif", (3, 8, 8))


def test_images_that_cannot_be_read_are_left_out_and_counted_if_asked_to(folder, caplog):
    (folder / "dog" / "3.png").write_bytes(b"no image")
    images = load_images(DataConfig(root=folder, skip_bad=True))
    assert len(images.train) + len(images.val) + len(images.test) == 19
    assert "1 of 10 images are left out" in caplog.text
    assert "3.png" in caplog.text


def test_a_folder_that_cannot_be_trained_on_is_named(folder):
    with pytest.raises(UserError, match="no such folder"):
        load_images(DataConfig(root=folder / "missing"))
    (folder / "dog" / "3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"3\.png: this image cannot be read"):
        load_images(DataConfig(root=folder))
    (folder / "a").mkdir()
    with pytest.raises(UserError, match="a: this folder has no images"):
        load_images(DataConfig(root=folder))


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match=r"Lower data\.batch_size"):
        Progress(10, Config())
