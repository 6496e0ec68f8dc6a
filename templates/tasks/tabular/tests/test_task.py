"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

from my_project import predict, tables
from my_project.config import parse
from my_project.errors import UserError
from my_project.task import inputs
from my_project.task.data import open_data
from my_project.task.settings import DataConfig
from my_project.train import run
from my_project.trained import evaluate

HEADER = "id,age,city,price"


@pytest.fixture
def table(tmp_path):
    """Forty rows of numbers and texts, some of them missing; the price is three times the age."""
    rows = [f"{i},{i if i % 7 else ''},{['Rome', 'Oslo', ''][i % 3]},{3 * i + 0.5}" for i in range(40)]
    path = tmp_path / "houses.csv"
    path.write_text("\n".join([HEADER, *rows, ""]))
    return path


def test_the_network_beats_the_most_frequent_class(smoke, data, tmp_path):
    targets = data.test.batch(list(range(len(data.test))), None)["target"].numpy()
    baseline = np.bincount(targets).max() / len(targets)
    cfg = replace(smoke, epochs=10, max_steps=-1, precision="fp32", num_threads=1, out_dir=tmp_path)
    run(cfg)
    assert evaluate(tmp_path, cfg)["accuracy"] > baseline > 0.5


@pytest.mark.parametrize(("monitor", "best"), [("r2", max), ("rmse", min)])
def test_best_weights_of_a_regression_follow_the_direction_of_the_monitor(smoke, tmp_path, monitor, best):
    objective = replace(smoke.objective, monitor=monitor)
    cfg = replace(smoke, max_steps=-1, epochs=6, precision="fp32", out_dir=tmp_path / "run", objective=objective)
    cfg = replace(cfg, data=DataConfig(example="diabetes"))
    score = run(cfg)
    rows = [row.split(",") for row in (cfg.out_dir / "metrics.csv").read_text().splitlines()]
    scores = [float(value) for _, _, name, value in rows if name == f"val/{monitor}"]
    assert len(scores) == 6
    assert score == pytest.approx(best(scores), rel=1e-4)
    assert evaluate(cfg.out_dir, cfg)["r2"] > 0  # of which the mean has 0


def test_a_table_of_numbers_and_texts_with_gaps_is_read(table):
    data = open_data(DataConfig(path=table, target="price", ignore="id"))
    age, city = data.about["columns"]
    assert "classes" not in data.about
    assert (age["name"], city["name"], sorted(city["values"])) == ("age", "city", ["", "Oslo", "Rome"])
    rows = np.concatenate([part.rows.numpy() for part in data[:3]])
    assert np.isnan(rows[:, 0]).sum() == 6
    assert len(rows) == 40


def test_a_parquet_file_gives_the_rows_of_a_csv(table, tmp_path):
    parquet.write_table(tables.read(table), tmp_path / "houses.parquet")
    ours, theirs = (
        open_data(DataConfig(path=path, target="price")).train for path in (table, tmp_path / "houses.parquet")
    )
    np.testing.assert_array_equal(ours.rows.numpy(), theirs.rows.numpy())


def test_a_value_that_was_never_seen_and_one_that_is_missing_are_encoded(table):
    about = open_data(DataConfig(path=table, target="price", ignore="id")).about
    [number, code] = inputs.decode({"city": "Atlantis"}, about)["rows"]
    assert np.isnan(number)
    assert code == 0


def test_a_target_of_few_whole_numbers_or_of_text_has_classes(table):
    assert open_data(DataConfig(path=table, target="city", ignore="id")).about["classes"] == ["", "Oslo", "Rome"]
    assert "classes" not in open_data(DataConfig(path=table, target="age", ignore="id")).about
    with pytest.raises(UserError, match="which is no number"):
        open_data(DataConfig(path=table, target="city", kind="regression"))


def test_what_cannot_be_trained_on_is_named(table, tmp_path):
    with pytest.raises(UserError, match=r'has no column "label"\. Columns: id, age, city, price'):
        open_data(DataConfig(path=table, target="label"))
    with pytest.raises(UserError, match="Give a CSV file"):
        open_data(DataConfig(path=tmp_path / "missing.csv"))
    same = tmp_path / "same.csv"
    same.write_text("x,y\n" + "1,a\n" * 20)
    with pytest.raises(UserError, match="all rows have the same class"):
        open_data(DataConfig(path=same, target="y"))


def test_a_record_and_a_file_of_rows_are_predicted(trained, tmp_path, command_line, capsys):
    about = open_data(trained.data).about
    names = [column["name"] for column in about["columns"]]
    path = tmp_path / "rows.csv"
    path.write_text(f"{','.join(names)}\n{','.join('1' for _ in names)}\n")
    command_line("--run", trained.out_dir, path, json.dumps({names[0]: 1.5, names[1]: None}))
    predict.main()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["input"] == f"{path}[0]"
    assert {first["label"], second["label"]} <= set(about["classes"])


def test_a_column_that_the_model_does_not_know_is_named(trained):
    with pytest.raises(UserError, match="agee: there is no such column"):
        inputs.decode({"agee": 1}, open_data(trained.data).about)


def test_settings_of_the_task_are_read(command_line, table):
    command_line("--data.path", table, "--data.target", "price")
    cfg, _ = parse("train")
    assert (cfg.data.path, cfg.data.target) == (table, "price")
    assert tables.read(table).num_rows == 40
