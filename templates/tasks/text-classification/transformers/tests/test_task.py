"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

import json
from dataclasses import replace

import pytest
from tiny import save
from transformers import AutoTokenizer

from my_project import predict
from my_project.errors import UserError
from my_project.task.data import open_data

ROWS = [(f"{word} {i}", word) for i in range(40) for word in ("ja", "nein, „niemals“", "")]


@pytest.fixture
def table(tmp_path):
    """Texts with commas and quotes, a third of them without a class."""
    path = tmp_path / "answers.csv"
    path.write_text("\n".join(["text,label", *(f'"{text}","{label}"' for text, label in ROWS), ""]), "utf-8")
    return path


def test_tokens_are_those_that_the_tokenizer_of_the_model_gives(smoke, table, tmp_path):
    save(tmp_path / "tiny")
    plain = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    cfg = replace(smoke, model=replace(smoke.model, pretrained=str(tmp_path / "tiny")))
    cfg = replace(cfg, data=replace(cfg.data, path=table, max_tokens=64))
    data = open_data(cfg.data)
    known = {tuple(plain(text)["input_ids"]): text for text, _ in ROWS}
    for source in data[:3]:
        batch = source.batch([*range(len(source))], None)
        for row, label in zip(batch["text"].tolist(), batch["label"].tolist(), strict=True):
            text = known[tuple(token for token in row if token >= 0)]
            assert data.about["classes"][label] == text.rpartition(" ")[0]


def test_long_texts_are_cut_and_counted_and_the_model_bounds_them(smoke, table, tmp_path, caplog):
    save(tmp_path / "tiny")
    cfg = replace(smoke, model=replace(smoke.model, pretrained=str(tmp_path / "tiny")))
    data = open_data(replace(cfg.data, path=table, max_tokens=8))
    assert "texts are longer than 8 tokens and are cut." in caplog.text
    assert all(source.batch([*range(len(source))], None)["text"].shape[1] <= 8 for source in data[:3])
    with pytest.raises(UserError, match="this model reads 64 tokens at most"):
        open_data(replace(cfg.data, path=table, max_tokens=65))


def test_a_tokenizer_of_other_weights_is_refused(smoke, tmp_path):
    save(tmp_path / "small", vocab_size=100)
    with pytest.raises(UserError, match="its weights know 100: they are of different models"):
        open_data(replace(smoke.data, pretrained=str(tmp_path / "small")))
    save(tmp_path / "none")
    for file in (tmp_path / "none").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="tokenizer"):
        open_data(replace(smoke.data, pretrained=str(tmp_path / "none")))


def test_arguments_lines_and_rows_are_predicted(trained, tmp_path, command_line, capsys, caplog):
    (tmp_path / "lines.txt").write_text("Guten Tag\nBonjour\n")
    (tmp_path / "rows.csv").write_text("text\nHello\n")
    long = "Wo ist der Bahnhof? " * 400
    command_line("--run", trained.out_dir, "Buongiorno", tmp_path / "lines.txt", tmp_path / "rows.csv", long)
    predict.main()
    found = [*map(json.loads, capsys.readouterr().out.splitlines())]
    names = ["Buongiorno", *(f"{tmp_path}/{name}" for name in ("lines.txt[0]", "lines.txt[1]", "rows.csv[0]")), long]
    assert [one["input"] for one in found] == names
    assert {one["label"] for one in found} <= {*open_data(trained.data).about["classes"]}
    assert "1 of 1 texts are longer than 32 tokens" in caplog.text
