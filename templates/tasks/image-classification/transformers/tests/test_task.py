"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import Auto, save
from transformers import ResNetConfig

from my_project import images, predict
from my_project.errors import UserError
from my_project.task.data import open_data
from my_project.task.model import build


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten images each."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            pixels = random.integers(0, 255, (9, 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture
def tiny(smoke, folder, tmp_path):
    """Settings that begin with a tiny model."""
    save(tmp_path / "tiny")
    cfg = replace(smoke, model=replace(smoke.model, pretrained=str(tmp_path / "tiny")))
    return replace(cfg, data=replace(cfg.data, root=folder))


def test_images_of_a_folder_have_the_size_of_the_model(tiny):
    data = open_data(tiny.data)
    assert data.about == {"classes": ["cat", "dog"], "shape": [3, 16, 16]}
    assert data.train.batch([0, 1], None)["image"].shape == (2, 3, 16, 16)


def test_a_resnet_trains_and_its_frozen_normalization_keeps_its_statistics(tiny, tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    Auto.from_config(config).save_pretrained(tmp_path / "tiny")
    data = open_data(tiny.data)
    net = build(replace(tiny.model, frozen_layers=-1), data.about, data.assets, init=True).train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    logits = net(data.train.batch([0, 1, 2], None)["image"])
    assert logits.shape == (3, 2)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


def test_weights_that_do_not_say_how_images_are_normalized_are_refused(tiny, tmp_path):
    (tmp_path / "tiny/preprocessor_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"preprocessor_config\.json says no size"):
        open_data(tiny.data)
    (tmp_path / "tiny/preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"Put the preprocessor_config\.json of these weights beside them"):
        open_data(tiny.data)


def test_predict_takes_files_folders_and_arrays(trained, data, tmp_path, command_line, capsys):
    pixels = (data.test.batch([0], None)["image"][0, 0] * images.WHITE).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    np.save(tmp_path / "bytes.npy", pixels)
    command_line("--run", trained.out_dir, tmp_path / "digit.png", tmp_path, tmp_path / "bytes.npy")
    predict.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert {line["index"] for line in lines} == {lines[0]["index"]}
