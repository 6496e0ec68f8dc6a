import base64
import io

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from my_project.serving.exported import Model
from my_project.serving.inputs import Reader, mount
from my_project.serving.settings import Settings
from my_project.task import inputs, requests

ABOUT = {"shape": [1, 4, 6], "classes": ["cat", "dog"]}


def test_a_class_and_a_seed_stand_for_noise_that_is_always_the_same():
    read = TypeAdapter(requests.build_input(ABOUT)).validate_json
    for text, seed in (('{"class": "dog"}', 0), ('{"class": "dog", "seed": 7}', 7)):
        sample, size = requests.decode(read(text), ABOUT, 0)
        expected = inputs.ask(1, seed, ABOUT)
        assert all(np.array_equal(sample[name], expected[name]) for name in inputs.INPUTS)
        assert size == sample["noise"].nbytes == 4 * 6 * 4


@pytest.mark.parametrize(
    "text",
    [
        *('{"class": "cow"}', '{"seed": 1}', '{"class": "cat", "seed": -1}', '{"class": "cat", "seed": 2147483648}'),
        *('{"class": "cat", "seed": 1.0}', '{"class": "cat", "sead": 1}', '"cat"', "[1]", "null"),
    ],
)
def test_what_is_no_class_with_a_seed_is_refused(text):
    with pytest.raises(ValidationError):
        TypeAdapter(requests.build_input(ABOUT)).validate_json(text)


def test_a_file_is_no_request():
    with pytest.raises(ValidationError):
        requests.decode(b"cat", ABOUT, 0)


def test_the_answer_is_described_as_it_is():
    images = np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 1, 4, 6)
    [answer] = inputs.predictions({"images": images}, ABOUT)
    assert requests.Prediction.model_validate(answer, extra="forbid").model_dump() == answer
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["image"]))))
    np.testing.assert_array_equal(shown, (images[0, 0] * 255).round())


def test_an_image_in_colors_is_written_in_colors():
    image = np.zeros((3, 4, 6), np.float32)
    image[0] = 1
    assert Image.open(io.BytesIO(inputs.encode(image))).getpixel((0, 0)) == (255, 0, 0)


@pytest.fixture
def client():
    """Of a service whose model makes dark cats and bright dogs."""

    def run(arrays):
        return {"images": np.ones_like(arrays["noise"]) * arrays["labels"][:, None, None, None].astype(np.float32)}

    async def answer(model, samples):
        return inputs.predictions(model.run(inputs.collate(samples)), model.about)

    app, model = FastAPI(), Model(run, ABOUT, "1")
    mount(app, Reader(lambda: model, Settings()), answer, lambda: "ready")
    return TestClient(app)


def test_one_image_is_a_file_and_the_same_as_in_json(client):
    asked = {"class": "dog", "seed": 3}
    answer = client.post("/image", json={"inputs": [asked]})
    assert answer.headers["content-type"] == "image/png"
    [prediction] = client.post("/predict", json={"inputs": [asked]}).json()["predictions"]
    assert base64.b64decode(prediction["image"]) == answer.content
    assert (np.asarray(Image.open(io.BytesIO(answer.content))) == 255).all()
    assert client.post("/image", json={"inputs": [asked] * 2}).status_code == 422
    assert "'cat' or 'dog'" in client.post("/image", json={"inputs": [{"class": "cow"}]}).json()["detail"]
