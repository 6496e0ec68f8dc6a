"""What a storage holds is never run, and what opens it is never shown."""

import json
import os
import pickle
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis as client

from tests.search.test_search import SHORT, Search, new, trials
from tests.support import forks
from tests.support.projects import FRAMEWORKS

PASSWORD = "s3cr3t%2Fp%40ss"  # s3cr3t/p@ss


class Attack:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("framework", FRAMEWORKS[:1])
def test_a_pickle_in_a_snapshot_on_redis_is_not_run_and_none_is_written(
    framework: str, tmp_path: Path, redis: str
) -> None:
    mark, project = tmp_path / "mark", new(tmp_path / "project", framework)
    server = client.Redis.from_url(redis)
    snapshot = pickle.dumps(Attack(mark))
    server.set(":snapshot", snapshot)
    Search(project, *f"--max_steps 4 --trials 2 --storage {redis}".split()).end()
    assert not mark.exists()
    assert server.get(":snapshot") == snapshot
    server.delete(":snapshot")
    assert len(trials(redis)) == 2


@pytest.fixture
def locked(redis: str) -> str:
    """The address of the same Redis for a user with a password."""
    server = client.Redis.from_url(redis)
    server.acl_setuser("worker", enabled=True, passwords=["+s3cr3t/p@ss"], keys=["*"], commands=["+@all"])
    return redis.replace("://", f"://worker:{PASSWORD}@")


@pytest.mark.cold
def test_a_password_in_a_variable_reaches_no_process_list_and_no_file(tmp_path: Path, locked: str) -> None:
    project = new(tmp_path, "ignite", loggers=["wandb"])
    command: list[str | Path] = [
        forks.python(cold=True),
        "-m",
        "my_project.tune",
        *SHORT,
        "--study",
        "locked",
        "--trials",
        "2",
        "--workers",
        "2",
        "--max_steps",
        "4",
    ]
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.settings | {"OPTUNA_STORAGE": locked},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    lines = set()
    while process.poll() is None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            lines.add(line)
        time.sleep(0.2)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert [line for line in lines if b"my_project.tune" in line]
    assert not [line for line in lines if b"s3cr3t" in line]
    assert "s3cr3t" not in said
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert not [path for path in written if b"s3cr3t" in path.read_bytes()]


@pytest.mark.parametrize(
    "address",
    [
        "redis://worker:s3cr3t@127.0.0.1:9",
        "redis://worker:s3cr3t%2Fp%40ss@127.0.0.1:9",
        "redis://worker:s3cr3t/p@ss@127.0.0.1:9",
        "redis://s3cr3t@127.0.0.1:9",
        "redis://127.0.0.1:9?password=s3cr3t",
        "postgresql://me:s3cr3t:x@127.0.0.1:9/db",
        "postgresql://127.0.0.1:9/db?user=me&password=s3cr3t",
    ],
)
def test_no_form_of_an_address_shows_its_secrets(address: str, tmp_path: Path) -> None:
    project = new(tmp_path, "ignite")
    given = project.start_fork("-m", "my_project.tune", *SHORT, "--storage", address)
    config = tmp_path / "storage.json"
    config.write_text(json.dumps({"storage": address}))
    read = project.start_fork("-m", "my_project.tune", *SHORT, "--config", config)
    for done in (given, read):
        assert done.returncode == 1, f"{done.stdout}{done.stderr}"
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert "s3cr3t" not in done.stderr
        assert "p@ss" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_login_in_mlflows_address_is_sent_and_shown_nowhere(tmp_path: Path) -> None:
    project = new(tmp_path, "ignite", loggers=["mlflow"], hpo="none")
    program = """
import base64, json, os, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
seen = []
class Server(BaseHTTPRequestHandler):
    def answer(self):
        seen.append(self.headers["Authorization"])
        self.send_error(403)
    do_GET = do_POST = answer
    def log_message(self, *args):
        pass
server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["MLFLOW_TRACKING_URI"] = f"http://me:s3cr3t%40x@127.0.0.1:{server.server_port}"
from pathlib import Path
from my_project.config import Config
from my_project.errors import plain_errors
from my_project.training import mlflow_run
with plain_errors():
    try:
        mlflow_run.open_run(Config(out_dir=Path("run")))
    finally:
        sent = base64.b64decode(seen[0].removeprefix("Basic "))
        print(sent == b"me:s3cr3t@x", os.environ["MLFLOW_TRACKING_URI"])
"""
    done = project.start_fork("-c", program)
    assert done.stdout.startswith("True http://127.0.0.1:"), f"{done.stdout}{done.stderr}"
    assert "MLFLOW_TRACKING_URI=http://127.0.0.1:" in done.stderr
    assert "s3cr3t" not in f"{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
