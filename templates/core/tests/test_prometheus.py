import socket
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from my_project.config import Config
from my_project.runs.progress import Progress
from my_project.train import run
from my_project.training import prometheus


def values(text):
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("training_")
    }


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def quick(monkeypatch):
    """Deliver often, and wait for nobody."""
    monkeypatch.setattr(prometheus, "INTERVAL_S", 0.05)
    monkeypatch.setattr(prometheus, "GRACE_S", 0.2)


def test_a_run_can_be_scraped_while_it_trains(small, objective, monkeypatch):
    port, scrapes = free_port(), []
    monkeypatch.setenv("METRICS_ADDRESS", f"127.0.0.1:{port}")

    def scrape(samples, score):
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            scrapes.append((score, values(answer.read().decode())))

    run(small, scrape)
    for step, (score, scraped) in zip((8, 16, 24), scrapes, strict=True):
        assert scraped["training_step"] == step
        assert scraped[f"training_val_{objective.monitor}"] == score
        assert scraped["training_running"] == 1
        assert {"training_loss", "training_lr", "training_epoch"} <= set(scraped)


def test_a_run_leaves_its_last_metrics_in_a_file(small, objective, tmp_path, monkeypatch):
    monkeypatch.setenv("METRICS_FILE", str(tmp_path / "digits.prom"))
    run(small)
    left = values((tmp_path / "digits.prom").read_text())
    assert left["training_running"] == left["training_failed"] == 0
    assert left["training_step"] == 24
    assert f"training_val_{objective.monitor}" in left


def test_a_run_pushes_its_metrics(small, quick, monkeypatch):
    pushed = []

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self):
            pushed.append((self.path, values(self.rfile.read(int(self.headers["Content-Length"])).decode())))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PUSHGATEWAY_URL", f"http://127.0.0.1:{server.server_port}")
        run(replace(small, max_steps=8))
        server.shutdown()
    path, last = pushed[-1]
    job = "my_project"
    assert path == f"/metrics/job/{job}/run/{small.out_dir.name}"
    assert (last["training_step"], last["training_running"]) == (8, 0)


def test_a_run_continues_when_nothing_takes_its_metrics(small, quick, tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it lets everybody in and answers nobody
        port = silent.getsockname()[1]
        monkeypatch.setenv("METRICS_ADDRESS", f"127.0.0.1:{port}")
        monkeypatch.setenv("METRICS_FILE", str(tmp_path / "missing" / "digits.prom"))
        monkeypatch.setenv("PUSHGATEWAY_URL", f"http://127.0.0.1:{port}")
        run(replace(small, max_steps=8))
    said = capsys.readouterr().err
    assert f"METRICS_ADDRESS=127.0.0.1:{port}: no metrics there" in said
    assert "METRICS_FILE=" in said


@pytest.mark.parametrize("answer", [None, 503], ids=["nobody", "refusal"])
def test_a_run_continues_when_its_gateway_refuses(answer, small, quick, monkeypatch, capsys):
    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(answer)

        def log_message(self, *args):
            pass

    port = free_port()
    monkeypatch.setenv("PUSHGATEWAY_URL", f"http://127.0.0.1:{port}")
    with HTTPServer(("127.0.0.1", port), Gateway, bind_and_activate=bool(answer)) as server:
        if answer:
            Thread(target=server.serve_forever, daemon=True).start()
        run(replace(small, max_steps=8))
        if answer:
            server.shutdown()
    assert f"PUSHGATEWAY_URL=http://127.0.0.1:{port}: no metrics there" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://me:s3cr3t@127.0.0.1:9", "s3cr3t@127.0.0.1:9", "http://127.0.0.1:9/?t=s3cr3t"])
def test_a_gateway_that_is_gone_is_named_without_its_secrets(url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PUSHGATEWAY_URL", url)
    with prometheus.Prometheus(tmp_path, Progress(10_000, Config())):
        pass
    said = capsys.readouterr().err
    assert "PUSHGATEWAY_URL=" in said
    assert "s3cr3t" not in said


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "nowhere.invalid:80", ""])
def test_an_address_that_is_none_is_no_reason_to_stop(small, tmp_path, address, monkeypatch, capsys):
    monkeypatch.setenv("METRICS_ADDRESS", address)
    with prometheus.Prometheus(tmp_path, Progress(10_000, Config())) as sink:
        sink.log_metrics({"train/loss": 1.0}, 1)
    assert ("warning" in capsys.readouterr().err) == bool(address)
