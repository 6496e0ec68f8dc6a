import json

import numpy as np
import onnxruntime
import pytest

from my_project import export
from my_project.config import UserError
from my_project.data import load_images
from my_project.export import (
    FILES,
    load_exported,
    load_plain,
)


@pytest.fixture(scope="module")
def exported(trained):
    """The folder of a run that was exported in every format."""
    export.export(trained.out_dir, trained, list(FILES))
    return trained.out_dir


@pytest.mark.parametrize("name", FILES)
def test_an_exported_model_answers_as_the_plain_one(exported, trained, name):
    images = load_images(trained.data).test.tensors[0].numpy()
    plain, model = load_plain(exported), load_exported(exported, name)
    assert (model.classes, model.shape, model.version) == (plain.classes, plain.shape, plain.version)
    for size in (1, 3, 100):
        expected, got = plain.run(images[:size]), model.run(images[:size])
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
        assert (got.argmax(1) == expected.argmax(1)).all()


def test_model_json_tells_what_the_files_are(exported):
    about = json.loads((exported / "export/model.json").read_text())
    assert about["input"] == {"name": "images", "shape": ["batch", 1, 8, 8], "dtype": "uint8"}
    assert about["output"] == {"name": "probabilities", "shape": ["batch", 10], "dtype": "float32"}
    session = onnxruntime.InferenceSession(exported / "export/model.onnx")
    names = [tensor.name for tensor in (*session.get_inputs(), *session.get_outputs())]
    assert names == ["images", "probabilities"]
    assert all(entry["max_abs_error"] <= 1e-5 for entry in about["files"].values())


def test_an_export_that_is_not_exact_fails_and_leaves_the_one_before(exported, trained, monkeypatch):
    before = (exported / "export/model.json").read_bytes()

    write = export.write

    def write_another(classifier, images, path):
        classifier.net.head.bias.data[3] += 10
        write(classifier, images, path)
        classifier.net.head.bias.data[3] -= 10

    monkeypatch.setattr(export, "write", write_another)
    with pytest.raises(
        UserError, match=r"model\.pt2: it does not answer as the plain model. Image \d+ of 1000.* became 3"
    ):
        export.export(exported, trained, ["torch-export"])
    assert (exported / "export/model.json").read_bytes() == before


def test_a_damaged_file_is_not_used(exported):
    path = exported / "export/model.onnx"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-100] + bytes(100))
        with pytest.raises(UserError, match="not the file that"):
            load_exported(exported, "onnx")
    finally:
        path.write_bytes(content)


def test_a_format_that_is_missing_or_unknown_is_named(tmp_path):
    with pytest.raises(UserError, match="Export it first"):
        load_exported(tmp_path, "onnx")
    with pytest.raises(UserError, match=r"format=onxx: give some of torch-export, onnx, torchscript"):
        export.read_formats(["onnx,onxx"])


def test_the_verb_takes_formats_and_says_which_is_legacy(trained, command_line, capsys):
    command_line("--run", trained.out_dir, "--format", "torchscript,onnx", "--format", "onnx")
    export.main()
    said = capsys.readouterr()
    assert [line.split(": ")[1].split(",")[0] for line in said.out.splitlines()] == ["torchscript", "onnx"]
    assert "legacy" in said.err
    export.export(trained.out_dir, trained, list(FILES))
