import asyncio
import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import TypeAdapter, ValidationError

from my_project import tokens
from my_project.generation import Prompt
from my_project.serving.exported import Model
from my_project.serving.inputs import Reader, mount
from my_project.serving.settings import Settings
from my_project.task import requests

ABOUT = {"window": 8, "num_tokens": 257}
TOKENIZER = tokens.train([], 257)


def check(text):
    TypeAdapter(requests.build_input(ABOUT)).validate_json(text)


def test_a_prompt_is_a_text_or_a_record():
    check('"The"')
    check('{"prompt": "The", "max_tokens": 3, "temperature": 0, "top_k": 1, "seed": 5}')
    assert requests.decode("The", ABOUT, 0)[0] == requests.decode(Prompt(prompt="The"), ABOUT, 0)[0]


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "null",
        '{"max_tokens": 3}',
        '{"prompt": "a", "max_tokens": 513}',
        '{"prompt": "a", "temperature": -1}',
        '{"prompt": "a", "temperature": NaN}',
        '{"prompt": "a", "top_k": 0}',
        '{"prompt": "a", "other": 0}',
        json.dumps("a" * 129),
    ],
)
def test_what_is_no_prompt_or_asks_for_too_much_is_refused(text):
    with pytest.raises(ValidationError):
        check(text)


def test_a_file_is_no_prompt():
    with pytest.raises(TypeError, match="a prompt is needed"):
        requests.decode(b"text", ABOUT, 0)


@pytest.fixture
def settings():
    return Settings()


@pytest.fixture
def client(settings):
    """Of a service whose model counts: after each byte comes the next one."""
    app, model, vocabulary = FastAPI(), Model(dict, ABOUT, "1", {tokens.FILE: TOKENIZER}), tokens.Vocabulary(TOKENIZER)
    after = {vocabulary.pieces.index(bytes([byte])): vocabulary.pieces.index(bytes([byte + 1])) for byte in range(255)}

    async def answer(model, samples):
        await asyncio.sleep(0.001)
        return [{"next": [(after[int(sample["tokens"][-1])], 0.0)]} for sample in samples]

    mount(app, Reader(lambda: model, settings), answer, lambda: "ready")
    with TestClient(app) as client:
        yield client


def test_prompts_of_a_request_are_continued_together_in_their_order(client):
    asked = [{"prompt": text, "max_tokens": most} for text, most in (("a", 3), ("0123456789", 1), ("à", 1))]
    answers = client.post("/predict", json={"inputs": asked}).json()["predictions"]
    wanted = [{"text": "bcd", "tokens": 3, "cut": 0}, {"text": ":", "tokens": 1, "cut": 3}]
    assert answers == [*wanted, {"text": "\N{REPLACEMENT CHARACTER}", "tokens": 1, "cut": 0}]


def test_a_text_is_sent_as_it_grows(client):
    answer = client.post("/stream", json={"inputs": [{"prompt": "a", "max_tokens": 12}]})
    assert answer.headers["content-type"] == "application/x-ndjson"
    *parts, counts = map(json.loads, answer.text.splitlines())
    assert parts == [{"text": letter} for letter in "bcdefghijklm"]
    assert counts == {"tokens": 12, "cut": 0}


@pytest.mark.parametrize("inputs", [["a", "b"], [], [{"prompt": "a", "max_tokens": 513}]])
def test_a_stream_of_none_of_several_or_of_too_much_is_refused(client, inputs):
    assert client.post("/stream", json={"inputs": inputs}).status_code == 422


@pytest.mark.parametrize("settings", [Settings(deadline_s=0.004)])
def test_a_text_that_takes_too_long_ends_though_each_of_its_tokens_comes_in_time(client):
    asked = {"inputs": [{"prompt": "a", "max_tokens": 100}]}
    parts = client.post("/stream", json=asked).text.splitlines()
    assert json.loads(parts[-1]) == {"error": "it took too long"}
    assert client.post("/predict", json=asked).status_code == 504
