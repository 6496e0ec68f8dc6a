"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from my_project import predict, tokens
from my_project.errors import UserError
from my_project.generation import Continuation, Prompt, rank
from my_project.task import inputs
from my_project.task.data import PADDING, open_data, split
from my_project.task.model import build
from my_project.task.settings import DataConfig, ModelConfig
from my_project.train import run
from my_project.trained import evaluate


def count(word, size):
    """A text in which no part comes twice."""
    return " ".join(f"{word}{i}" for i in range(size))


@pytest.fixture(scope="module")
def vocabulary(data):
    return tokens.Vocabulary(data.assets[tokens.FILE])


@pytest.fixture
def net(smoke, data):
    torch.manual_seed(0)
    return build(smoke.model, data.about, data.assets, init=True).eval()


def texts_of(source, vocabulary):
    """All that a source asks to predict, as bytes."""
    targets = source.batch([*range(len(source))], None)["targets"]
    return b"".join(vocabulary.pieces[token] for token in targets.flatten().tolist() if token != PADDING)


def test_the_network_beats_gzip_on_the_same_bytes(smoke, tmp_path):
    path = tmp_path / "text.txt"
    random = np.random.default_rng(0)
    words = [random.integers(97, 123, size=5, dtype=np.uint8).tobytes().decode() for _ in range(40)]
    path.write_text(" ".join(words[i] for i in random.integers(0, 40, size=40_000)))
    cfg = replace(smoke, max_steps=150, precision="fp32", num_threads=1, out_dir=tmp_path / "run")
    cfg = replace(cfg, data=replace(smoke.data, path=path, batch_size=16), epochs=100)
    run(cfg)
    held_out = "".join(split(tokens.read_texts(path))["test"]).encode()
    gzipped = 8 * len(gzip.compress(held_out, 9)) / len(held_out)
    assert evaluate(cfg.out_dir, cfg)["bits_per_byte"] < gzipped


def test_the_windows_of_a_split_predict_each_of_its_bytes_once(data, vocabulary):
    for name, texts in split(tokens.read_texts(None)).items():
        source = getattr(data, name)  # an epoch of `smoke` sees all
        assert texts_of(source, vocabulary) == "".join(texts).encode()
        sizes = source.batch([*range(len(source))], None)["bytes"].sum()
        assert sizes == len("".join(texts).encode())


def test_training_windows_begin_anywhere_and_lie_within_the_text(data):
    indices = [0, 0, 0, len(data.train) - 1]
    batch = data.train.batch(indices, torch.tensor([1, 2, 3, 4]))
    assert len({tuple(row) for row in batch["tokens"].tolist()}) == 4
    assert (batch["targets"] != PADDING).all()
    torch.testing.assert_close(batch["tokens"][:, 1:], batch["targets"][:, :-1])


def test_the_split_of_a_text_stays_when_others_come_or_it_grows():
    texts = {"a": count("a", 9000), "b": count("b", 9000)}
    before = split(texts)
    after = split({"0": count("new", 5000), "a": count("a", 12_000), "b": texts["b"]})
    assert sum(len(part) for parts in before.values() for part in parts) == sum(map(len, texts.values()))
    for name, parts in before.items():
        assert parts
        for part in parts:
            assert any(part in grown for grown in after[name])


@pytest.mark.parametrize("text", ["", " a  b\r\n\tc", "Größe 猫 🎉 e\u0301", "<|endoftext|>", "\x00\ufeff"])
def test_any_text_is_the_same_after_it_was_made_tokens(vocabulary, text):
    ids = vocabulary.encode(text)
    assert vocabulary.end not in ids
    assert b"".join(vocabulary.pieces[token] for token in ids).decode() == text
    assert vocabulary.sizes()[ids].sum() == len(text.encode())


def test_a_tokenizer_of_another_run_can_be_taken(data, smoke, trained, tmp_path):
    path = tmp_path / tokens.FILE
    path.write_bytes(data.assets[tokens.FILE])
    again = open_data(DataConfig(tokenizer=path, window=smoke.data.window))
    assert again.assets == data.assets
    other = tmp_path / "other.txt"
    other.write_text(count("other", 20_000))
    given = DataConfig(tokenizer=path, path=other, window=smoke.data.window)
    assert 0 < evaluate(trained.out_dir, replace(trained, data=given))["bits_per_byte"] < 100
    with pytest.raises(UserError, match="trained on other data"):
        evaluate(trained.out_dir, replace(trained, data=replace(given, tokenizer=None)))
    with pytest.raises(UserError, match=r"missing\.json: it cannot be used"):
        open_data(DataConfig(tokenizer=tmp_path / "missing.json"))
    path.write_text('{"model": 1}')
    with pytest.raises(UserError, match=r"tokenizer\.json of a byte-level BPE"):
        open_data(DataConfig(tokenizer=path))


def test_what_cannot_be_trained_on_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no \.txt file in this folder"):
        open_data(DataConfig(path=tmp_path))
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc\xff")
    with pytest.raises(UserError, match=r"a\.txt: byte 3 is no UTF-8"):
        open_data(DataConfig(path=tmp_path))
    path.write_text("too short")
    with pytest.raises(UserError, match="these texts are too short"):
        open_data(DataConfig(path=path))
    with pytest.raises(UserError, match="it cannot be used"):
        open_data(DataConfig(path=tmp_path / "missing.txt"))


def test_a_width_that_heads_do_not_divide_is_refused(data):
    with pytest.raises(UserError, match=r"model\.width=30: give a multiple of model\.heads=4"):
        build(ModelConfig(width=30), data.about, data.assets, init=True)


def test_no_token_sees_those_after_it(net, data):
    first = data.test.batch([0], None)["tokens"]
    second = first.clone()
    second[:, 10:] = 0
    torch.testing.assert_close(net(first)[:, :10], net(second)[:, :10])


@pytest.mark.parametrize("length", [0, 5, 31, 32, 100])
def test_a_cache_changes_no_logit(net, data, vocabulary, length):
    """Also where the text has grown beyond the window, and of prompts that begin beyond it."""
    prompt = Prompt(prompt="x?" * length, max_tokens=50, temperature=1.5, seed=3)
    cached = inputs.predict(net, prompt, data.about, data.assets)
    plain = Continuation(vocabulary, prompt, data.about["window"])
    while not plain.done:
        assert len(plain.seen) <= data.about["window"]
        with torch.inference_mode():
            plain.take(rank(net(torch.from_numpy(plain.seen)[None])[0, -1].numpy()))
    assert plain.result() == cached


def test_the_seed_fixes_what_is_drawn(net, data):
    def draw(**settings):
        return inputs.predict(net, Prompt(prompt="The", **settings), data.about, data.assets)["text"]

    assert draw(seed=1) == draw(seed=1) != draw(seed=2)
    assert draw(temperature=0, seed=1) == draw(temperature=0, seed=2) == draw(top_k=1, seed=3)
    assert draw(temperature=1e-9, seed=1) == draw(temperature=0)


def test_prompts_and_records_are_continued(trained, command_line, capsys, caplog):
    record = json.dumps({"prompt": "The for " * 50, "max_tokens": 3})
    command_line("--run", trained.out_dir, "The", record)
    predict.main()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["input"], first["cut"]) == ("The", 0)
    assert 0 < first["tokens"] <= 64
    assert second["tokens"] <= 3
    assert f"its first {second['cut']} tokens are left out" in caplog.text


@pytest.mark.parametrize(("record", "wrong"), [('{"prompt": "a", "top_k": 0}', "top_k"), ('{"promt": "a"}', "prom")])
def test_a_record_that_is_none_is_refused_in_a_line(trained, command_line, record, wrong):
    command_line("--run", trained.out_dir, record)
    with pytest.raises(SystemExit, match=rf"^error: .*{wrong}.*README"):
        predict.main()
