import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from my_project.task import inputs, requests

ABOUT = {"classes": ["de", "en"], "max_bytes": 8}
ONE = TypeAdapter(requests.build_input(ABOUT))


def test_a_text_stands_for_its_bytes():
    sample, size = requests.decode(ONE.validate_json('" Gr\\u00fc\\u00dfe"'), ABOUT, 0)
    assert bytes(sample["texts"]).decode() == "Grüße"
    assert size == 0


@pytest.mark.parametrize(
    "text", ['""', '"  "', '"123456789"', '"üüüüü"', "1", "null", '["a"]', '{"a": "b"}', '"\\ud800"']
)
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
