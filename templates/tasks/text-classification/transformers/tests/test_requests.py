import asyncio

import numpy as np
import pytest
from fastapi import HTTPException
from pydantic import TypeAdapter, ValidationError

from my_project import tokens
from my_project.serving.exported import Model
from my_project.task import inputs, requests
from my_project.task.model import SMALL

ABOUT = {"classes": ["de", "en"], "max_tokens": 8, "num_tokens": 257, "padding": 0}
ONE = TypeAdapter(requests.build_input(ABOUT))


def test_a_text_is_made_tokens_and_refused_if_it_has_too_many():
    async def answer(model, samples):
        return [sample["tokens"].tolist() for sample in samples]

    encoded, model = requests.extend(None, None, answer), Model(dict, ABOUT, "1", tokens.read(None, SMALL))
    rows = asyncio.run(encoded(model, ["12345678", " ab "]))
    assert [len(row) for row in rows] == [8, 2]
    with pytest.raises(HTTPException, match=r"inputs\[1\]: it has more than 8 tokens"):
        asyncio.run(encoded(model, ["a", "123456789"]))


@pytest.mark.parametrize("text", ['""', '"  "', f'"{129 * "a"}"', "1", "null", '["a"]', '{"a": "b"}', '"\\ud800"'])
def test_what_is_no_text_or_too_long_for_the_model_is_refused(text):
    ONE.validate_json('"12345678"')
    with pytest.raises(ValidationError):
        ONE.validate_json(text)


def test_a_file_is_refused():
    with pytest.raises(TypeError, match="no file"):
        requests.decode(b"text", ABOUT, 0)


def test_the_answer_is_described_as_it_is():
    answers = inputs.predictions({"probabilities": np.array([[0.25, 0.75]], np.float32)}, ABOUT)
    assert requests.Prediction.model_validate(answers[0], extra="forbid").model_dump() == answers[0]
