import json

import numpy as np
import pytest
import torch
from PIL import Image

from my_project import evaluate, predict, train
from my_project.data import load_images


@pytest.fixture
def digit(trained, tmp_path):
    """The file of a handwritten digit, and its pixels [8, 8] as bytes."""
    pixels = load_images(trained.data).test.tensors[0][0, 0].numpy()
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    return tmp_path / "digit.png", pixels


def test_train_prints_where_its_results_are(small, command_line, capsys):
    command_line("--max_steps", 2, "--out_dir", small.out_dir, "--num_threads", torch.get_num_threads())
    train.main()
    assert str(small.out_dir) in capsys.readouterr().out


def test_train_says_a_mistake_in_one_line(trained, command_line):
    command_line("--out_dir", trained.out_dir)
    with pytest.raises(SystemExit, match=r"^error: out_dir="):
        train.main()


def test_evaluate_scores_the_test_split(trained, command_line, capsys):
    command_line("--run", trained.out_dir)
    evaluate.main()
    scores = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert set(scores) == {"test/loss", "test/accuracy", "test/f1"}
    assert float(scores["test/accuracy"]) > 0.8


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


def test_a_folder_without_a_run_is_named(tmp_path, command_line):
    command_line("--run", tmp_path)
    with pytest.raises(SystemExit, match=r"best\.pt or best\.json.*Train first"):
        evaluate.main()
