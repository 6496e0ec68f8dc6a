import json
from dataclasses import replace

import pytest
import torch

from my_project import evaluate, train
from my_project.paths import newest_run


@pytest.fixture
def smoke_line(smoke, tmp_path, monkeypatch, command_line):
    """Gives a command the settings of a short run and some of its own, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    cfg = replace(smoke, epochs=8, max_steps=4, validate_every=2, num_threads=torch.get_num_threads())
    settings = {name: value for name, value in cfg.plain().items() if value is not None}
    (tmp_path / "smoke.json").write_text(json.dumps(settings))  # which is YAML, too
    return lambda *own: command_line("--config", "smoke.json", *own)


def test_train_prints_where_its_results_are(smoke_line, capsys):
    smoke_line("--out_dir", "elsewhere")
    train.main()
    assert "elsewhere" in capsys.readouterr().out


def test_runs_are_numbered_and_other_commands_take_the_newest(smoke_line, tmp_path):
    for _ in range(2):
        smoke_line()
        train.main()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["0001", "0002"]
    assert newest_run().name == "0002"


def newest_steps(runs):
    return [max(run.glob("checkpoints/*.pt")).stem[-2:] for run in sorted(runs.iterdir())]


def test_the_newest_run_that_has_not_reached_the_goal_is_resumed(smoke_line, tmp_path):
    for _ in range(2):
        smoke_line()
        train.main()
    smoke_line("--resume", "auto", "--max_steps", 6)
    train.main()
    assert newest_steps(tmp_path / "runs") == ["04", "06"]  # the goal has moved, so the newest continues
    (tmp_path / "runs/0001/run.json").write_text("{}")  # as if it had been killed
    train.main()
    assert newest_steps(tmp_path / "runs") == ["06", "06"]


def test_train_says_a_mistake_in_one_line(trained, command_line):
    command_line("--out_dir", trained.out_dir)
    with pytest.raises(SystemExit, match=r"^error: out_dir="):
        train.main()


def test_evaluate_scores_the_test_split(trained, objective, command_line, capsys):
    command_line("--run", trained.out_dir)
    evaluate.main()
    scores = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert set(scores) >= {f"test/{name}" for name in objective.directions}


def test_a_folder_without_a_run_is_named(tmp_path, command_line):
    command_line("--run", tmp_path)
    with pytest.raises(SystemExit, match=r"best\.pt or best\.json.*Train first"):
        evaluate.main()
