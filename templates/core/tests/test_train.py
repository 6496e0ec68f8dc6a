import json
from dataclasses import replace

import pytest
import torch

from my_project.errors import UserError
from my_project.runs.metrics import MetricsFile
from my_project.train import run


class StopError(Exception):
    pass


def stop_after(num_validations):
    reports = []

    def report(samples, score):
        reports.append(score)
        if len(reports) == num_validations:
            raise StopError

    return report


def read_losses(folder):
    return [row for row in MetricsFile(folder).read() if row[2].startswith("train/")]


def test_the_run_folder_holds_what_the_readme_says(trained, objective):
    names = {path.name for path in trained.out_dir.iterdir()}
    assert names >= {"config.yaml", "metrics.csv", "run.json", "best.pt", "best.json", "curves.png", "checkpoints"}
    logged = {name for _, _, name, _ in MetricsFile(trained.out_dir).read()}
    assert logged >= {"lr", *(f"val/{name}" for name in objective.directions)}
    assert any(name.startswith("train/") for name in logged)


def test_a_run_says_what_it_came_from_and_why_it_ended(trained, data):
    facts = json.loads((trained.out_dir / "run.json").read_text())
    assert facts["data"] == data.train.fingerprint
    assert facts["samples"]["train"] == len(data.train)
    assert facts["versions"]["torch"] == torch.__version__
    assert "step 100" in facts["ended"] or "stopped early" in facts["ended"]


def test_best_weights_load_without_the_framework(trained):
    weights = torch.load(trained.out_dir / "best.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())


def test_a_folder_that_holds_a_run_is_not_trained_in_by_accident(trained):
    with pytest.raises(UserError, match="--resume auto"):
        run(replace(trained, resume="never"))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_stopped_run_continues_as_if_it_had_not_stopped(small, tmp_path, precision):
    whole = replace(small, precision=precision)
    run(whole)
    stopped = replace(whole, out_dir=tmp_path / "stopped")
    with pytest.raises(StopError):
        run(stopped, stop_after(2))
    run(replace(stopped, resume="auto"))
    for name in ("metrics.csv", "best.json"):
        assert (stopped.out_dir / name).read_bytes() == (whole.out_dir / name).read_bytes()


def test_a_run_can_stop_and_continue_between_two_validations(small, tmp_path):
    run(small)
    stopped = replace(small, out_dir=tmp_path / "stopped")
    run(replace(stopped, max_steps=11))
    run(replace(stopped, resume="auto"))
    assert read_losses(stopped.out_dir) == read_losses(small.out_dir)


def test_training_stops_early_without_progress(small):
    still = replace(small, validate_every=1, patience=2, optim=replace(small.optim, lr=0.0))
    scores = []
    run(still, lambda samples, score: scores.append(score))
    assert len(scores) < small.max_steps
    assert "stopped early" in json.loads((small.out_dir / "run.json").read_text())["ended"]


def test_each_validation_is_reported_with_its_score(small, objective):
    reports = []
    best = run(small, lambda samples, score: reports.append((samples, score)))
    samples, scores = zip(*reports, strict=True)
    assert len(samples) == 3
    assert list(samples) == sorted({*samples})
    assert best == {"min": min, "max": max}[objective.directions[objective.monitor]](scores)


def test_a_run_continues_from_the_checkpoint_before_a_damaged_one(small, caplog):
    run(small)
    before = (small.out_dir / "metrics.csv").read_text()
    newest = max((small.out_dir / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    (small.out_dir / "run.json").write_text("{}")  # which would say that the run is finished
    run(replace(small, resume="auto"))
    assert f"{newest.name}: this checkpoint is damaged" in caplog.text
    assert (small.out_dir / "metrics.csv").read_text() == before


def test_a_new_run_can_start_from_the_weights_of_another(trained, small):
    run(replace(small, init_from=trained.out_dir, max_steps=1, optim=replace(small.optim, lr=0.0)))
    first, given = (torch.load(cfg.out_dir / "best.pt", weights_only=True) for cfg in (small, trained))
    torch.testing.assert_close(first, given)


def test_the_seed_fixes_the_run(small, tmp_path):
    short = replace(small, max_steps=8)
    runs = [replace(short, seed=seed, out_dir=tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for cfg in runs:
        run(cfg)
    first, same, other = ((cfg.out_dir / "metrics.csv").read_text() for cfg in runs)
    assert first == same != other
