import json
import re
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from my_project import export as command
from my_project.errors import UserError
from my_project.serving import FILES, exported
from my_project.serving.exported import load_exported, load_model
from my_project.task import inputs
from my_project.task.data import open_data
from my_project.trained import runner


@pytest.fixture(scope="module")
def run(trained):
    """The folder of a run that was exported in every format."""
    exported.export(trained.out_dir, trained, list(FILES))
    return trained.out_dir


@pytest.mark.parametrize("name", FILES)
def test_an_exported_model_answers_as_the_plain_one(run, trained, name):
    test = open_data(trained.data).test
    plain, model = load_model(run, "plain"), load_exported(run, name)
    assert (model.about, model.version) == (plain.about, plain.version)
    for size in (1, 3, 100):
        arrays = inputs.from_batch(test.batch([i % len(test) for i in range(size)], None))
        assert inputs.differ(plain.run(arrays), model.run(arrays)).max() <= inputs.TOLERANCE


def test_model_json_tells_what_the_files_are(run):
    told = json.loads((run / "export/model.json").read_text())
    model = load_model(run, "plain")
    arrays = inputs.example(model.about, 5)
    for described, found in ((told["inputs"], arrays), (told["outputs"], model.run(arrays))):
        assert {one["name"]: one["dtype"] for one in described} == {name: str(found[name].dtype) for name in found}
        assert all(one["shape"][0] == "batch" for one in described)
    session = onnxruntime.InferenceSession(run / "export/model.onnx")
    for described, tensors in ((told["inputs"], session.get_inputs()), (told["outputs"], session.get_outputs())):
        assert [(one["name"], one["shape"]) for one in described] == [(one.name, one.shape) for one in tensors]
    assert all(entry["max_abs_error"] <= inputs.TOLERANCE for entry in told["files"].values())


def test_the_folder_for_hubs_has_the_weights_of_the_run_and_loads_as_its_card_says(run, monkeypatch):
    hub, weights = run / "export/hub", torch.load(run / "best.pt", weights_only=True)
    found, card = load_file(hub / "model.safetensors"), (hub / "README.md").read_text()
    #: if generator == "gan"
    weights = {name: weight for name, weight in weights.items() if name in found}  # those of the generator
    #: endif
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())
    best, origin = (json.loads((run / name).read_text()) for name in ("best.json", "run.json"))
    for told in (origin["data"], origin["versions"]["torch"], *best["scores"]):
        assert told in card
    monkeypatch.chdir(hub)
    names = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], names)  # a reader's own program
    plain = load_model(run, "plain")
    arrays = inputs.example(plain.about, 3)
    again = runner(inputs.Exported(names["net"]).eval())(arrays)
    assert all(np.array_equal(value, again[name]) for name, value in plain.run(arrays).items())


def test_an_export_that_is_not_exact_fails_and_leaves_the_one_before(run, trained, monkeypatch):
    before = (run / "export/model.json").read_bytes()
    write = exported.write

    def write_another(module, sample, path):
        kept = {name: value.clone() for name, value in module.state_dict().items()}
        with torch.no_grad():
            for value in module.parameters():
                value.add_(1)
        write(module, sample, path)
        module.load_state_dict(kept)

    monkeypatch.setattr(exported, "write", write_another)
    with pytest.raises(
        UserError, match=r"model\.pt2: its answers differ from the plain model's. In a batch of \d+, .*"
    ):
        exported.export(run, trained, ["torch-export"])
    assert (run / "export/model.json").read_bytes() == before


def test_fewer_batches_are_checked_where_samples_are_large(run, monkeypatch):
    about = load_model(run, "plain").about
    monkeypatch.setattr(exported, "MOST_NUMBERS", 0)
    assert exported.choose_batches(about) == [1, 2, 7]
    monkeypatch.setattr(exported, "MOST_NUMBERS", 2**60)
    assert exported.choose_batches(about) == list(exported.BATCHES)


def test_a_damaged_file_is_not_used(run):
    path = run / "export/model.onnx"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-100] + bytes(100))
        with pytest.raises(UserError, match="not the file that"):
            load_exported(run, "onnx")
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 0}, "another version of this project"),
        ({"about": {}}, "cannot be used"),
        ({"sample": {name: [[0.5]] for name in inputs.OUTPUTS}}, "other numbers here"),
    ],
)
def test_a_description_that_does_not_fit_its_files_is_not_used(run, change, reason):
    path = run / "export/model.json"
    content = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(content) | change))
        with pytest.raises(UserError, match=reason):
            load_exported(run, "onnx")
    finally:
        path.write_text(content)


def test_a_format_that_is_missing_or_unknown_is_named(tmp_path):
    with pytest.raises(UserError, match="Export it first"):
        load_exported(tmp_path, "onnx")
    with pytest.raises(UserError, match=r"format=onxx: give some of torch-export, onnx, torchscript"):
        command.read_formats(["onnx,onxx"])


def test_the_command_takes_formats_and_says_which_is_legacy(trained, command_line, capsys, caplog):
    shutil.rmtree(trained.out_dir / "export", ignore_errors=True)
    command_line("--run", trained.out_dir, "--format", "torchscript,onnx", "--format", "onnx")
    command.main()
    said = capsys.readouterr().out
    assert [line.split(": ")[1].split(",")[0] for line in said.splitlines()[:-1]] == ["torchscript", "onnx"]
    assert said.endswith(f"hf upload NAME {trained.out_dir / 'export/hub'}\n")
    assert "legacy" in caplog.text
    exported.export(trained.out_dir, trained, list(FILES))


def test_another_format_leaves_those_that_were_exported_before(trained):
    exported.export(trained.out_dir, trained, ["onnx"])
    assert set(exported.export(trained.out_dir, trained, ["torchscript"])["files"]) >= {"onnx", "torchscript"}
    for name in ("onnx", "torchscript"):
        assert load_exported(trained.out_dir, name).version == load_model(trained.out_dir, "plain").version
    exported.export(trained.out_dir, trained, list(FILES))


def test_the_example_is_the_same_in_any_number(run):
    about = load_model(run, "plain").about
    few, many = inputs.example(about, 2), inputs.example(about, 9)
    assert all(np.array_equal(few[name], many[name][:2], equal_nan=True) for name in inputs.INPUTS)
