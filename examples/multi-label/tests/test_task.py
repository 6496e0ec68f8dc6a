"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

from dataclasses import replace

import pytest
from PIL import Image

from flowers.errors import UserError
from flowers.task.data import open_data
from flowers.task.settings import DataConfig, ModelConfig
from flowers.train import run
from flowers.trained import evaluate


@pytest.fixture
def folder(tmp_path):
    """Twelve images, each second of which is dark, and each third odd."""
    for i in range(12):
        Image.new("L", (9, 7), i * 20).save(tmp_path / f"{i}.png")
    lines = [f"{i}.png,{'dark' * (i % 2)} {'odd' * (i % 3 == 0)}" for i in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,labels", *lines]))
    return tmp_path


def test_the_network_beats_the_most_frequent_answer(smoke, data, tmp_path):
    truth = data.test.batch(list(range(len(data.test))), None)["label"]
    counts = truth.unique(dim=0, return_counts=True)[1]
    cfg = replace(smoke, max_steps=160, precision="fp32", num_threads=1, out_dir=tmp_path, model=ModelConfig(width=16))
    run(cfg)
    assert evaluate(tmp_path, cfg)["exact"] > counts.max().item() / len(truth) + 0.2


def test_labels_of_a_folder_are_those_of_its_csv(folder):
    data = open_data(DataConfig(root=folder))
    assert data.about["classes"] == ["dark", "odd"]
    assert data.train.batch([0], None)["label"].shape == (1, 2)
    assert len(data.train) + len(data.val) + len(data.test) == 12


def test_an_image_that_is_missing_is_named(folder):
    (folder / "3.png").unlink()
    with pytest.raises(UserError, match=r"labels\.csv: it names 3\.png"):
        open_data(DataConfig(root=folder))
