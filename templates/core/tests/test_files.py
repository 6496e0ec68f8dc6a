import json

import pytest
import torch

from my_project.errors import UserError
from my_project.runs import files
from my_project.runs.metrics import MetricsFile

STATE = {"weights": torch.arange(1000.0)}


@pytest.fixture
def folder(tmp_path):
    """The folder of three checkpoints, of which the oldest is gone again."""
    for step in (5, 10, 15):
        save(tmp_path, step)
    return tmp_path


def save(folder, step):
    files.save_checkpoint(folder / f"step-{step:08d}.pt", STATE)


def test_the_newest_two_checkpoints_are_kept_each_with_a_manifest(folder):
    names = [f"step-{step:08d}.{suffix}" for step in (10, 15) for suffix in ("json", "pt")]
    assert sorted(path.name for path in folder.iterdir()) == names
    manifest = json.loads((folder / "step-00000015.json").read_text())
    assert manifest == {"sha256": files.sha256(folder / "step-00000015.pt")}


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
    assert files.newest_checkpoint(folder) == folder / "step-00000010.pt"
    assert (str(newest) in caplog.text) == newest.exists()  # without the file, nothing says there was one
    if newest.exists():
        with pytest.raises(UserError, match="this checkpoint is damaged"):
            files.load_checkpoint(newest)


def test_a_run_without_a_whole_checkpoint_does_not_begin_anew_by_itself(folder):
    for path in folder.glob("*.pt"):
        cut(path)
    with pytest.raises(UserError, match="no checkpoint in it is whole"):
        files.newest_checkpoint(folder)


def test_a_save_that_fails_is_tried_again_and_leaves_the_checkpoints_before_it(folder, monkeypatch, caplog):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "PAUSES_S", (0.01, 0.01))
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


def test_a_file_of_another_version_is_refused(tmp_path):
    for content, reason in (({"format": files.FORMAT + 1}, "later version"), ({"schema": 4}, "--init_from")):
        files.save_json(tmp_path / "best.json", content)
        with pytest.raises(UserError, match=reason):
            files.load_best(tmp_path)


def test_metrics_are_cut_back_to_a_step_also_after_half_a_line(tmp_path):
    file = MetricsFile(tmp_path)
    file.cut(0)
    file.log_metrics({"train/loss": 0.5}, step=10)
    whole = file.path.read_text()
    file.log_metrics({"train/loss": 0.25}, step=20)
    file.path.write_text(file.path.read_text() + "3")
    file.cut(10)
    assert file.path.read_text() == whole
