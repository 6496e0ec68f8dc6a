import base64
import io

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from samples import as_file

from my_project.serving.exported import Model
from my_project.serving.inputs import Reader, mount
from my_project.serving.settings import Settings
from my_project.task import inputs, requests

ABOUT = {"shape": [3, 8, 6], "classes": ["a", "b"]}


def decode(value, budget=48 * 2**20):
    return requests.decode(value, ABOUT, budget)[0]["images"]


def test_an_image_file_stands_for_its_pixels():
    pixels = inputs.example(ABOUT, 1)["images"][0]
    file = as_file(Image.fromarray(pixels.transpose(1, 2, 0).copy()))
    for value in (pixels.tolist(), file, base64.b64encode(file).decode()):
        np.testing.assert_array_equal(decode(value), pixels)


def test_a_small_file_that_would_grow_is_refused_before_it_does():
    with pytest.raises(ValueError, match=r"\d+ bytes are needed"):
        decode(as_file(Image.new("1", (6000, 6000))))


@pytest.mark.parametrize("value", [[[1, 2]], [[["1"] * 6] * 8] * 3, [[[256] * 6] * 8] * 3, 1, None])
def test_arrays_of_other_shapes_and_values_are_refused(value):
    one = TypeAdapter(requests.build_input(ABOUT))
    one.validate_python([[[255] * 6] * 8] * 3)
    with pytest.raises(ValidationError):
        one.validate_python(value)


def test_the_answer_is_described_as_it_is():
    mask, confidences = np.eye(8, 6, dtype=np.uint8)[None], np.full((1, 8, 6), 0.75, np.float32)
    [answer] = inputs.predictions({"masks": mask, "confidences": confidences}, ABOUT)
    assert requests.Prediction.model_validate(answer, extra="forbid").model_dump() == answer
    assert answer["shares"] == {"a": 0.875, "b": 0.125}
    assert answer["confidence"] == 0.75
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"])))), mask[0])


@pytest.fixture
def client():
    """Of a service whose model finds class 1 where an image is bright."""

    def run(arrays):
        bright = arrays["images"][:, 0] > 127
        return {"masks": bright.astype(np.uint8), "confidences": np.ones(bright.shape, np.float32)}

    async def answer(model, samples):
        return inputs.predictions(model.run(inputs.collate(samples)), model.about)

    app, model = FastAPI(), Model(run, ABOUT, "1")
    mount(app, Reader(lambda: model, Settings()), answer, lambda: "ready")
    return TestClient(app)


def test_the_mask_of_one_image_is_a_file_and_the_same_as_in_json(client):
    halves = np.zeros((8, 6, 3), np.uint8)
    halves[4:] = 255
    asked = base64.b64encode(as_file(Image.fromarray(halves))).decode()
    answer = client.post("/mask", json={"inputs": [asked]})
    assert answer.headers["content-type"] == "image/png"
    [prediction] = client.post("/predict", json={"inputs": [asked]}).json()["predictions"]
    assert base64.b64decode(prediction["mask"]) == answer.content
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), halves[..., 0] // 255)
    assert client.post("/mask", files={"inputs": as_file(Image.fromarray(halves))}).content == answer.content
    assert client.post("/mask", json={"inputs": [asked] * 2}).status_code == 422
