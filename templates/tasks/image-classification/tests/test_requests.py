import base64
import io

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from my_project.task import inputs, requests

ABOUT = {"shape": [1, 8, 8], "classes": ["a", "b"]}


def decode(value, budget=48 * 2**20):
    return requests.decode(value, ABOUT, budget)[0]["images"]


def as_file(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_an_image_file_stands_for_its_pixels():
    pixels = inputs.example(ABOUT, 1)["images"][0]
    file = as_file(Image.fromarray(pixels[0]))
    for value in (pixels.tolist(), file, base64.b64encode(file).decode()):
        np.testing.assert_array_equal(decode(value), pixels)


@pytest.mark.parametrize("value", [b"", b"no image", "bm8gaW1hZ2U=", "%%%"])
def test_what_is_no_image_is_refused(value):
    with pytest.raises(Exception, match=r"identify|base64|Incorrect padding|Only base64"):
        decode(value)


@pytest.mark.parametrize("value", [[[1, 2]], [[[1, 2], [3]]], [[["1"] * 8] * 8], [[[256] * 8] * 8], 1, None])
def test_arrays_of_other_shapes_and_values_are_refused(value):
    one = TypeAdapter(requests.build_input(ABOUT))
    one.validate_python([[[255] * 8] * 8])
    with pytest.raises(ValidationError):
        one.validate_python(value)


def test_small_files_that_would_grow_are_refused_before_they_do():
    scans = as_file(Image.new("L", (3000, 3000)), "JPEG", progressive=True)
    head, tail = scans[:-2], scans[-2:]
    last = head[head.rindex(b"\xff\xda") :]
    large = as_file(Image.new("1", (6000, 6000)))
    for file in (head + 500 * last + tail, large):
        with pytest.raises(ValueError, match=r"\d+ bytes are needed"):
            decode(file)
    small = as_file(Image.new("L", (30, 20)))
    assert requests.decode(small, ABOUT, 2400)[1] == 2400
    with pytest.raises(ValueError, match="2400 bytes are needed, and 2399 are left"):
        decode(small, 2399)


def test_the_answer_is_described_as_it_is():
    answers = inputs.predictions({"probabilities": np.array([[0.25, 0.75]], np.float32)}, ABOUT)
    assert requests.Prediction.model_validate(answers[0], extra="forbid").model_dump() == answers[0]
