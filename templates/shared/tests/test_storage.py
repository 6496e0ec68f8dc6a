import json

import pytest
import torch
from torch import nn

from my_project import migrations, storage
from my_project.config import UserError
from my_project.runs import MetricsFile

STATE = {"weights": torch.arange(1000.0), "train_loss": {"total": 0.0, "weight": 0.0}}


@pytest.fixture
def folder(tmp_path):
    """The folder of three checkpoints, of which the oldest is gone again."""
    for step in (5, 10, 15):
        save(tmp_path, step)
    return tmp_path


def save(folder, step):
    storage.save_checkpoint(folder / f"step-{step:08d}.pt", STATE, "torch")


def test_the_newest_two_checkpoints_are_kept_each_with_a_manifest(folder):
    names = [f"step-{step:08d}.{suffix}" for step in (10, 15) for suffix in ("json", "pt")]
    assert sorted(path.name for path in folder.iterdir()) == names
    manifest = json.loads((folder / "step-00000015.json").read_text())
    assert (manifest["schema"], manifest["step"]) == (migrations.SCHEMA, 15)
    assert "torch" in manifest["versions"]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def take_another(path):
    path.write_bytes(path.with_stem("step-00000010").read_bytes())


@pytest.mark.parametrize("harm", [cut, flip, empty, remove, take_another])
@pytest.mark.parametrize("suffix", [".pt", ".json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(folder, harm, suffix, caplog):
    newest = folder / "step-00000015.pt"
    harm(newest.with_suffix(suffix))
    assert storage.newest_checkpoint(folder) == folder / "step-00000010.pt"
    assert (str(newest) in caplog.text) == newest.exists()  # without the file, nothing says there was one
    if newest.exists():
        with pytest.raises(UserError, match="this checkpoint is damaged"):
            storage.load_checkpoint(newest)


def test_a_checkpoint_and_manifest_of_another_step_are_damaged_too(folder):
    for suffix in (".pt", ".json"):
        take_another((folder / "step-00000015.pt").with_suffix(suffix))
    assert "of step 10" in storage.damage(folder / "step-00000015.pt")


def test_a_run_without_a_whole_checkpoint_does_not_begin_anew_by_itself(folder):
    for path in folder.glob("*.pt"):
        cut(path)
    with pytest.raises(UserError, match="no checkpoint in it is whole"):
        storage.newest_checkpoint(folder)


def test_a_save_that_fails_is_tried_again_and_leaves_the_checkpoints_before_it(folder, monkeypatch, caplog):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match=r"No space left on device.*--resume auto"):
        save(folder, 20)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert caplog.text.count("NOT SAVED") == 2


def test_what_a_killed_save_left_is_gone_after_the_next(folder):
    for name in ("step-00000012.pt.tmp", "step-00000012.json"):
        (folder / name).touch()
    save(folder, 20)
    assert {path.stem for path in folder.iterdir()} == {"step-00000015", "step-00000020"}


def test_weights_of_an_earlier_schema_are_brought_to_this_one(tmp_path, monkeypatch):
    old, new = nn.ModuleDict({"first": nn.Linear(2, 2)}), nn.ModuleDict({"linear": nn.Linear(2, 2)})
    torch.save(old.state_dict(), tmp_path / "best.pt")
    storage.save_json(tmp_path / "best.json", {"schema": migrations.SCHEMA})

    def rename(weights):
        return {name.replace("first.", "linear."): value for name, value in weights.items()}

    monkeypatch.setitem(migrations.WEIGHTS, migrations.SCHEMA, rename)
    monkeypatch.setattr(migrations, "SCHEMA", migrations.SCHEMA + 1)
    storage.load_weights(new, storage.load_best(tmp_path)[1], tmp_path)
    assert torch.equal(new["linear"].weight, old["first"].weight)


def test_an_average_of_schema_3_finds_the_weights_it_is_of():
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    state = {"optimizer": {"state": {0: {}, 1: {}, 2: {}, 3: {}}}, "average": net.state_dict()}
    slots = migrations.CHECKPOINTS[3](state)["optimizer"]["state"]
    expected = [net[1].weight, net[0].weight, net[0].bias, net[1].bias]  # as the optimizer has them
    assert all(torch.equal(slots[i]["average"], weight) for i, weight in enumerate(expected))


def test_a_file_of_a_later_version_is_refused():
    with pytest.raises(UserError, match="of a later version"):
        migrations.migrate({}, migrations.SCHEMA + 1, {}, "best.pt")


def test_metrics_are_cut_back_to_a_step_also_after_half_a_line(tmp_path):
    file = MetricsFile(tmp_path)
    file.cut(0)
    file.log_metrics({"train/loss": 0.5}, step=10)
    whole = file.path.read_text()
    file.log_metrics({"train/loss": 0.25}, step=20)
    file.path.write_text(file.path.read_text() + "3")
    file.cut(10)
    assert file.path.read_text() == whole
