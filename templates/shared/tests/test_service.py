"""The service as its clients see it, on a port of this machine."""

import base64
import io
import os
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
from PIL import Image

from my_project.data import load_images
from my_project.export import export, load_plain


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_until_ready(client, process):
    for _ in range(600):
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None, "the service ended"
        time.sleep(0.1)
    raise AssertionError("the service does not get ready")


@pytest.fixture(scope="module")
def client(trained):
    """A client of a service that runs as a user starts it; at the end it has to stop as it should."""
    export(trained.out_dir, trained, ["onnx"])
    port = free_port()
    options = ["--run", trained.out_dir, "--port", port, "--max_body_mb", 0.1, "--drain_s", 0.1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "SERVING_API_KEY": "secret"}
    command = [sys.executable, "-m", "my_project.serve"]
    process = subprocess.Popen([*command, *map(str, options)], env=environment)
    headers = {"X-API-Key": "secret"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            wait_until_ready(client, process)
            yield client
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def images(trained):
    return load_images(trained.data).test.tensors[0].numpy()


def predict(client, inputs):
    return client.post("/predict", json={"inputs": inputs})


def test_one_input_or_many_get_the_answers_of_the_plain_model_in_order(client, images, trained):
    expected = load_plain(trained.out_dir).run(images[:32])
    together = predict(client, images[:32].tolist()).json()["predictions"]
    alone = [predict(client, [image.tolist()]).json()["predictions"][0] for image in images[:8]]
    assert [answer["index"] for answer in together] == expected.argmax(1).tolist()
    assert [answer["index"] for answer in alone] == expected.argmax(1).tolist()[:8]
    given = [answer["probability"] for answer in together]
    np.testing.assert_allclose(given, expected.max(1), rtol=0, atol=1e-5)
    assert set(together[0]) == {"label", "index", "probability"}


def test_an_image_file_in_base64_gets_the_answer_of_its_pixels(client, images):
    file = io.BytesIO()
    Image.fromarray(images[0, 0]).save(file, "PNG")
    answers = predict(client, [base64.b64encode(file.getvalue()).decode(), images[0].tolist()])
    first, second = answers.json()["predictions"]
    assert first == second


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'{"inputs": []}',
        b'{"inputs": [[[1, 2]]]}',
        b'{"inputs": [[[[1, 2], [3]]]]}',
        b'{"inputs": [[[[NaN]]]]}',
        b'{"inputs": [[[[Infinity]]]]}',
        b'{"inputs": [[[["1"]]]]}',
        b'{"inputs": [[[[256]]]]}',
        b'{"inputs": ["bm8gaW1hZ2U="]}',
        b'{"inputs": ["%%%"]}',
        b'{"inputs": [1]}',
        b'{"other": 1}',
    ],
)
def test_what_is_no_input_is_refused_in_words(client, body):
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_more_inputs_than_allowed_are_refused(client, images):
    assert predict(client, [images[0].tolist()] * 65).status_code == 422


def test_a_body_that_is_too_large_is_refused_also_when_it_does_not_say_so(client):
    def chunks():
        yield b"[" * 60_000
        yield b"[" * 60_000

    assert client.post("/predict", content=b"[" * 120_000).status_code == 413
    assert client.post("/predict", content=chunks()).status_code == 413


def test_who_has_not_the_key_gets_no_answers(client, images):
    for key in ("", "secre", "other"):
        answer = client.post("/predict", json={"inputs": []}, headers={"X-API-Key": key})
        assert answer.status_code == 401
        assert client.get("/model", headers={"X-API-Key": key}).status_code == 401
        assert client.get("/readyz", headers={"X-API-Key": key}).status_code == 200


def test_small_things_that_would_grow_are_refused_before_they_do(client):
    scans = io.BytesIO()
    Image.new("L", (3000, 3000)).save(scans, "JPEG", progressive=True)
    head, tail = scans.getvalue()[:-2], scans.getvalue()[-2:]
    last = head[head.rindex(b"\xff\xda") :]
    large = io.BytesIO()
    Image.new("1", (6000, 6000)).save(large, "PNG")
    for bomb in (b'{"inputs":[' + b"[]," * 20_000 + b"[]]}", b"{" + b'"a":1,' * 10_000 + b'"a":1}'):
        assert client.post("/predict", content=bomb).status_code == 422
    for file in (head + 500 * last + tail, large.getvalue()):
        answer = predict(client, [base64.b64encode(file).decode()])
        assert (answer.status_code, "megapixels" in answer.text) == (422, True)


def test_its_page_needs_nothing_from_elsewhere(client):
    for path in ("/", "/docs"):
        page = client.get(path, headers={"X-API-Key": ""})
        assert page.status_code == 200
        assert "http://" not in page.text.replace("http://www.w3.org", "")
        assert "https://" not in page.text
    assert client.get("/redoc").status_code == 404


def test_it_tells_how_it_is_and_which_model_answers(client, trained):
    for path in ("/livez", "/readyz", "/health"):
        assert client.get(path).status_code == 200
    about = client.get("/model").json()
    assert about["version"] == load_plain(trained.out_dir).version
    assert (about["backend"], about["shape"], len(about["classes"])) == ("onnx", [1, 8, 8], 10)
    assert "/predict" in client.get("/openapi.json").json()["paths"]
