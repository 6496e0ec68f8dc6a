import json
from dataclasses import replace

import pytest
import torch

from my_project.config import UserError
from my_project.model import ModelConfig
from my_project.runs import MetricsFile
from my_project.train import run


class StopError(Exception):
    pass


def stop_after(last_epoch):
    def report(epoch, score):
        if epoch == last_epoch:
            raise StopError

    return report


def test_the_model_learns(trained):
    best = json.loads((trained.out_dir / "best.json").read_text())
    assert best["score"] > 0.8  # chance is 0.1


def test_the_run_folder_holds_what_the_readme_says(trained):
    names = {path.name for path in trained.out_dir.iterdir()}
    assert names >= {"config.yaml", "metrics.csv", "best.pt", "best.json", "curves.png", "confusion.png"}
    rows = MetricsFile(trained.out_dir).read()
    metrics = {"train/loss", "lr", "val/loss", "val/accuracy", "val/f1"}
    assert {name for _, _, name, _ in rows} == metrics


def test_best_weights_load_without_the_framework(trained):
    weights = torch.load(trained.out_dir / "best.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert not any(name.startswith(("net.", "module.")) for name in weights)


def test_a_finished_run_returns_its_score_again(trained):
    before = (trained.out_dir / "metrics.csv").read_text()
    score = run(trained)
    assert score == json.loads((trained.out_dir / "best.json").read_text())["score"]
    assert (trained.out_dir / "metrics.csv").read_text() == before


def test_a_run_is_never_overwritten(trained):
    with pytest.raises(UserError, match=r"--resume auto.*another --out_dir"):
        run(replace(trained, resume="never"))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(small, tmp_path, precision):
    whole = replace(small, precision=precision)
    run(whole)
    stopped = replace(whole, out_dir=tmp_path / "stopped")
    with pytest.raises(StopError):
        run(stopped, stop_after(2))
    run(replace(stopped, resume="auto"))
    for name in ("metrics.csv", "best.json"):
        assert (stopped.out_dir / name).read_bytes() == (whole.out_dir / name).read_bytes()


def test_a_run_can_stop_and_go_on_within_an_epoch(small, tmp_path):
    run(small)
    stopped = replace(small, out_dir=tmp_path / "stopped")
    run(replace(stopped, max_steps=7))
    run(replace(stopped, resume="auto"))
    curves = [[row for row in MetricsFile(cfg.out_dir).read() if row[2] == "train/loss"] for cfg in (small, stopped)]
    assert curves[0] == curves[1]


def test_training_stops_early_without_progress(small):
    epochs = []
    run(
        replace(small, epochs=9, patience=1, optim=replace(small.optim, lr=0.0)),
        lambda e, _: epochs.append(e),
    )
    assert epochs == [1, 2]


def test_each_epoch_is_reported_with_its_score(small):
    reports = []
    best = run(small, lambda epoch, score: reports.append((epoch, score)))
    assert [epoch for epoch, _ in reports] == [1, 2]
    assert max(score for _, score in reports) == best


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(small, caplog):
    run(small)
    before = (small.out_dir / "metrics.csv").read_text()
    newest = max((small.out_dir / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    (small.out_dir / "best.json").write_text("{}")  # which would say that the run is complete
    run(replace(small, resume="auto"))
    assert f"{newest.name}: this checkpoint is damaged" in caplog.text
    assert (small.out_dir / "metrics.csv").read_text() == before


def test_a_checkpoint_of_another_model_is_refused_before_anything_changes(small):
    run(small)
    before = (small.out_dir / "config.yaml").read_text()
    other = replace(small, resume="auto", epochs=3, model=ModelConfig(width=16))
    with pytest.raises(UserError, match="another model"):
        run(other)
    assert (small.out_dir / "config.yaml").read_text() == before


def test_wrong_data_leaves_no_folder_behind(small, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        run(replace(small, data=replace(small.data, root=tmp_path / "missing")))
    assert not small.out_dir.exists()


def test_the_seed_fixes_the_run(small, tmp_path):
    runs = [
        replace(small, epochs=1, seed=seed, out_dir=tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    for cfg in runs:
        run(cfg)
    first, same, other = ((cfg.out_dir / "metrics.csv").read_text() for cfg in runs)
    assert first == same != other
