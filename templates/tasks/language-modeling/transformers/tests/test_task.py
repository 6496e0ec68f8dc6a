"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

import json
from dataclasses import replace

import pytest
import torch
from tiny import save
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel

from my_project import predict, tokens
from my_project.errors import UserError
from my_project.generation import Continuation, Prompt, rank
from my_project.task import inputs
from my_project.task.data import open_data
from my_project.task.model import build


@pytest.fixture
def tiny(smoke, tmp_path):
    """Settings that begin with a tiny model."""
    save(tmp_path / "tiny")
    return replace(smoke, model=replace(smoke.model, pretrained=str(tmp_path / "tiny")))


def test_tokens_are_those_that_the_tokenizer_of_the_model_gives(tiny):
    data, plain = open_data(tiny.data), AutoTokenizer.from_pretrained(tiny.model.pretrained)
    vocabulary = tokens.Vocabulary(data.assets[tokens.FILE], end=data.about["end"])
    for text in ("The quick brown fox", "Größe 猫 🎉"):
        assert vocabulary.encode(text) == plain(text, add_special_tokens=False)["input_ids"]
        assert b"".join(vocabulary.pieces[token] for token in vocabulary.encode(text)).decode() == text
    assert vocabulary.end == plain.eos_token_id


def test_a_cache_changes_no_logit(tiny):
    """Also where the text has grown beyond the window."""
    data = open_data(tiny.data)
    net = build(tiny.model, data.about, data.assets, init=True).eval()
    prompt = Prompt(prompt="x?" * 5, max_tokens=50, temperature=1.5, seed=3)
    cached = inputs.predict(net, prompt, data.about, data.assets)
    plain = Continuation(tokens.Vocabulary(data.assets[tokens.FILE]), prompt, data.about["window"])
    while not plain.done:
        with torch.inference_mode():
            plain.take(rank(net(torch.from_numpy(plain.seen)[None])[0, -1].numpy()))
    assert plain.result() == cached


def test_a_window_that_is_longer_than_the_model_is_refused(tiny):
    with pytest.raises(UserError, match=r"data\.window=65: this model reads 64 tokens at most"):
        open_data(replace(tiny.data, window=65))


def test_a_tokenizer_of_other_weights_and_one_that_is_not_of_bytes_are_refused(smoke, tmp_path):
    save(tmp_path / "small", vocab_size=100)
    with pytest.raises(UserError, match="its weights know 100: they are of different models"):
        open_data(replace(smoke.data, pretrained=str(tmp_path / "small")))
    save(tmp_path / "signs")
    content = json.loads((file := tmp_path / "signs/tokenizer.json").read_text())
    content["model"]["vocab"]["▁the"] = 290
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"is not of a byte-level BPE\. Give a model whose tokenizer"):
        open_data(replace(smoke.data, pretrained=str(tmp_path / "signs")))


def test_a_model_that_sees_what_follows_is_refused(tiny, tmp_path):
    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertLMHeadModel(BertConfig(**sizes, intermediate_size=32)).save_pretrained(tmp_path / "tiny")
    data = open_data(tiny.data)
    with pytest.raises(UserError, match="its tokens see those after them"):
        build(tiny.model, data.about, data.assets, init=True)


def test_prompts_and_records_are_continued(trained, command_line, capsys):
    record = json.dumps({"prompt": "The for " * 50, "max_tokens": 3})
    command_line("--run", trained.out_dir, "The", record)
    predict.main()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["input"], first["cut"]) == ("The", 0)
    assert 0 < first["tokens"] <= 64
    assert second["tokens"] <= 3
