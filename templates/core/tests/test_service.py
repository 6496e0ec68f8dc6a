"""The service as its clients see it, on a port of this machine."""

import os
import socket
import subprocess
import sys
import time

import httpx
import pytest
from samples import in_json

from my_project.serving.exported import export, load_model
from my_project.task import inputs, requests
from my_project.trained import Trained


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
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False) as client:
            wait_until_ready(client, process)
            yield client
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def plain(trained):
    """The model that was exported."""
    return load_model(trained.out_dir, "plain")


def expect(trained, plain, asked):
    samples = [requests.decode(one, plain.about, 2**30)[0] for one in asked]
    if own := getattr(inputs, "predict", None):  # of a task whose answers take several calls of the model
        net = Trained(trained.out_dir, trained).net
        return [own(net, sample, plain.about, plain.assets) for sample in samples]
    return inputs.predictions(plain.run(inputs.collate(samples)), plain.about)


def predict(client, asked):
    return client.post("/predict", json={"inputs": asked})


def test_one_input_or_many_get_the_answers_of_the_plain_model_in_order(client, trained, plain):
    asked = in_json(plain.about, 32)
    expected = expect(trained, plain, asked)
    together = predict(client, asked).json()["predictions"]
    alone = [predict(client, [one]).json()["predictions"][0] for one in asked[:8]]
    for answers in (together, alone):
        for answer, wanted in zip(answers, expected, strict=False):
            assert answer.keys() == wanted.keys()
            for name, value in wanted.items():
                assert answer[name] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value)
    assert len(together) == 32


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'{"inputs": []}',
        b'{"inputs": [null]}',
        b'{"inputs": [NaN]}',
        b'{"inputs": 1}',
        b'{"inputs": [1], "inputs": [2]}',
        b'{"other": 1}',
    ],
)
def test_what_is_no_input_is_refused_in_words(client, body):
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_more_inputs_than_allowed_are_refused(client, plain):
    assert predict(client, in_json(plain.about, 1) * 65).status_code == 422


def test_a_body_that_is_too_large_is_refused_also_when_it_does_not_say_so(client):
    def chunks():
        yield b"[" * 60_000
        yield b"[" * 60_000

    assert client.post("/predict", content=b"[" * 120_000).status_code == 413
    assert client.post("/predict", content=chunks()).status_code == 413


def test_who_has_not_the_key_gets_no_answers(client):
    for key in ("", "secre", "other"):
        answer = client.post("/predict", json={"inputs": []}, headers={"X-API-Key": key})
        assert answer.status_code == 401
        assert client.get("/model", headers={"X-API-Key": key}).status_code == 401
        assert client.get("/readyz", headers={"X-API-Key": key}).status_code == 200


def test_small_bodies_that_would_grow_are_refused_before_they_do(client):
    for bomb in (b'{"inputs":[' + b"[]," * 20_000 + b"[]]}", b"{" + b'"a":1,' * 10_000 + b'"a":1}'):
        assert client.post("/predict", content=bomb).status_code == 422


def test_a_file_that_is_no_input_is_refused_in_words(client):
    answer = client.post("/predict", files={"inputs": b"no input"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("inputs[0]: it cannot be decoded")


def test_its_page_needs_nothing_from_elsewhere(client):
    for path in ("/", "/docs"):
        page = client.get(path, headers={"X-API-Key": ""})
        assert page.status_code == 200
        assert "http://" not in page.text.replace("http://www.w3.org", "")
        assert "https://" not in page.text
    assert client.get("/redoc").status_code == 404


def test_its_example_is_a_request_that_it_answers(client):
    asked = client.get("/example")
    assert asked.json()["inputs"]
    answer = client.post("/predict", content=asked.content, headers={"Content-Type": "application/json"})
    assert len(answer.json()["predictions"]) == 1


def test_it_tells_how_it_is_and_which_model_answers(client, plain):
    for path in ("/livez", "/readyz", "/health"):
        assert client.get(path).status_code == 200
    told = client.get("/model").json()
    assert (told["backend"], told["max_batch"]) == ("onnx", 64)
    assert (told["version"], told["about"]) == (plain.version, plain.about)
    assert [one["name"] for one in told["inputs"]] == list(inputs.INPUTS)
    assert "/predict" in client.get("/openapi.json").json()["paths"]
