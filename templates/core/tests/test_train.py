import json
from dataclasses import replace

import pytest
import torch

from my_project.errors import UserError
from my_project.runs.metrics import MetricsFile
from my_project.train import run
from my_project.training import module as modules
from my_project.training.optim import Update, trained_weights


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


def test_a_run_that_goes_back_forgets_the_best_weights_of_the_steps_that_it_undoes(small):
    run(small)
    earlier, _ = sorted((small.out_dir / "checkpoints").glob("*.pt"))
    best = json.loads((small.out_dir / "best.json").read_text())
    (small.out_dir / "best.json").write_text(json.dumps(best | {"step": small.max_steps + 1}))
    still = replace(small, resume=earlier, validate_every=1, optim=replace(small.optim, lr=0.0))
    run(still)
    now = json.loads((small.out_dir / "best.json").read_text())
    assert now["step"] == int(earlier.stem[-8:]) + 1  # the first validation after it: no later one is better


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_is_skipped_whose_gradient_overflows_only_as_a_whole(small, data, precision):
    cfg = replace(small, precision=precision)
    module = modules.build_module(cfg, data)
    weights = trained_weights(module)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0, enabled=precision == "fp16")
    update = Update(module, weights, cfg, scaler)
    before = [weight.detach().clone() for weight in weights]
    for weight in (*weights, module.tally):
        weight.grad = torch.full_like(weight, 1e30)  # a number, but its square is none
    scaler.scale(torch.ones(1))
    update.guard.prepare(1)
    scaler.step(update.optimizer)
    assert all(torch.equal(*pair) for pair in zip(weights, before, strict=True))


@pytest.mark.parametrize("source", [".", "checkpoint.pt"])
def test_a_new_run_starts_with_what_the_objective_of_another_has_learned(small, data, tmp_path, source):
    learned, new = (modules.build_module(small, data) for _ in range(2))
    for module, value in ((learned, 2.0), (new, 0.0)):
        module.objective.register_parameter("temperature", torch.nn.Parameter(torch.tensor([value])))
    torch.save(learned.net.state_dict(), tmp_path / "best.pt")
    torch.save(learned.objective.state_dict(), tmp_path / "objective.pt")
    torch.save({"fingerprint": ["", 0], "module": learned.state_dict()}, tmp_path / "checkpoint.pt")
    modules.load_first_weights(tmp_path / source, new)
    assert new.objective.temperature.item() == 2


def test_the_seed_fixes_the_run(small, tmp_path):
    short = replace(small, max_steps=8)
    runs = [replace(short, seed=seed, out_dir=tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for cfg in runs:
        run(cfg)
    first, same, other = ((cfg.out_dir / "metrics.csv").read_text() for cfg in runs)
    assert first == same != other
