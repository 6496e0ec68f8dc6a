"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

from my_project import predict, texts
from my_project.config import parse
from my_project.errors import UserError
from my_project.task import inputs
from my_project.task.data import open_data
from my_project.task.model import build
from my_project.task.settings import DataConfig, ModelConfig
from my_project.train import run
from my_project.trained import evaluate

ROWS = [(f"{word} {i}", word) for i in range(40) for word in ("ja", "nein, „niemals“\nnein", "")]


@pytest.fixture
def table(tmp_path):
    """Texts with commas, quotes and line ends, a third of them without a class."""
    path = tmp_path / "answers.csv"
    lines = [f'"{text}","{label}"' for text, label in ROWS]
    path.write_text("\n".join(["text,label", *lines, ""]), "utf-8")
    return path


def everything(source):
    """All texts and labels of a source."""
    rows = [source.batch([i], None) for i in range(len(source))]
    return [bytes(row["text"][0].numpy()).decode() for row in rows], [row["label"].item() for row in rows]


def test_the_network_beats_a_linear_model_of_tf_idf(smoke, data, tmp_path):
    (known, labels), (asked, truth) = everything(data.train), everything(data.test)
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    baseline = make_pipeline(vectors, SGDClassifier(random_state=0)).fit(known, labels).score(asked, truth)
    cfg = replace(
        smoke, max_steps=-1, epochs=10, precision="fp32", num_threads=1, out_dir=tmp_path, model=ModelConfig()
    )
    run(cfg)
    assert evaluate(tmp_path, cfg)["accuracy"] > baseline > 0.9


def test_the_splits_share_no_text_and_hold_every_class(data):
    found = [everything(source) for source in (data.train, data.val, data.test)]
    assert sum(len(labels) for _, labels in found) == 7315
    assert len(set().union(*(asked for asked, _ in found))) == 7315
    assert all({*labels} == {*range(15)} for _, labels in found)


@torch.inference_mode()
def test_an_answer_does_not_depend_on_how_far_a_text_is_filled_up(data):
    net = build(ModelConfig(), data.about, {}, True).eval()
    texts = torch.randint(1, 256, (5, 30), dtype=torch.uint8)
    filled = torch.cat([texts, torch.zeros(5, 400, dtype=torch.uint8)], dim=1)
    torch.testing.assert_close(net(filled), net(texts), rtol=0, atol=1e-6)


def test_csv_json_lines_and_parquet_give_the_same_texts(table, tmp_path, caplog):
    rows = [{"text": text, "label": label or None, "number": 1} for text, label in ROWS]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "answers.parquet")
    found = [open_data(DataConfig(path=table.with_suffix(suffix))) for suffix in texts.FILES]
    assert len({data.train.fingerprint for data in found}) == 1
    assert sum(map(len, found[0][:3])) == 80
    assert "40 of 120 rows are left out, as they have no label." in caplog.text
    known, _ = everything(found[0].train)
    assert "nein, „niemals“\nnein 3" in known


def test_rows_that_are_added_move_no_other_and_those_of_a_group_stay_together(tmp_path):
    def splits(number, **more):
        lines = [f"text {i},{'ab'[i % 2]},{i // 10}" for i in range(number)]
        (tmp_path / "t.csv").write_text("\n".join(["words,kind,page", *lines]))
        cfg = DataConfig(path=tmp_path / "t.csv", text="words", label="kind", **more)
        return [{*everything(source)[0]} for source in open_data(cfg)[:3]]

    assert all(few <= many for few, many in zip(splits(200), splits(300), strict=True))
    pages = [{int(text.split()[1]) // 10 for text in found} for found in splits(300, group="page")]
    assert sum(map(len, pages)) == len(set().union(*pages)) == 30


def test_long_texts_are_cut_between_letters_and_counted(table, caplog):
    data = open_data(DataConfig(path=table, max_bytes=8))
    assert "40 of 80 texts are longer than 8 bytes and are cut." in caplog.text
    found = set().union(*(everything(source)[0] for source in data[:3]))
    assert found == {"nein, ", *(f"ja {i}" for i in range(40))}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("words,label\na,b\n", r'no column "text"\. Columns: words, label\. Set --data\.text and --data\.label'),
        ("text,label\n" + "x,same\n" * 30, r"has texts of classes \['same'\], and needs those of two"),
        ("text,label\na,b\n ,c\n,c\n", "2 of 3 texts are empty, the first in row 2. Leave them out"),
        ("text,label\na,b\nb,c\n", "2 samples are too few for train, val and test"),
        ("", "it cannot be used"),
    ],
)
def test_what_cannot_be_trained_on_is_said_in_a_line(tmp_path, content, said):
    path = tmp_path / "texts.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=said) as error:
        open_data(DataConfig(path=path))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"Give a file with a name in \.csv, \.jsonl, \.parquet"):
        open_data(DataConfig(path=tmp_path / "missing.csv"))


def test_arguments_lines_and_rows_are_predicted(trained, tmp_path, command_line, capsys):
    (tmp_path / "lines.txt").write_text("Guten Tag\nBonjour\n")
    (tmp_path / "rows.csv").write_text("text\nHello\n")
    long = "Wo ist der Bahnhof? " * 400
    command_line("--run", trained.out_dir, "Buongiorno", tmp_path / "lines.txt", tmp_path / "rows.csv", long)
    predict.main()
    found = [*map(json.loads, capsys.readouterr().out.splitlines())]
    names = ["Buongiorno", *(f"{tmp_path}/{name}" for name in ("lines.txt[0]", "lines.txt[1]", "rows.csv[0]")), long]
    assert [one["input"] for one in found] == names
    assert {one["label"] for one in found} <= {*open_data(trained.data).about["classes"]}


@pytest.mark.parametrize(("argument", "said"), [(" ", "the text is empty"), ("missing.txt", "Give a file of lines")])
def test_an_argument_that_cannot_be_predicted_is_named(trained, argument, said):
    with pytest.raises(UserError, match=said):
        [*inputs.read(argument, {"max_bytes": 8}, trained.data)]


def test_a_batch_is_filled_up_to_its_longest_text():
    samples = [{"texts": np.frombuffer(text, np.uint8)} for text in (b"abc", b"d")]
    assert inputs.collate(samples)["texts"].tolist() == [[97, 98, 99], [100, 0, 0]]


def test_settings_of_the_task_are_read(command_line, table):
    command_line("--data.path", table, "--data.label", "kind", "--model.ngrams", 3)
    cfg, _ = parse("train")
    assert (cfg.data.path, cfg.data.label, cfg.model.ngrams) == (table, "kind", 3)
