"""Real servers of Debian's packages, each on a free port of this machine while a test module runs."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import proofs

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/none"))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty Redis."""
    program = shutil.which("redis-server")
    if not program:
        pytest.skip("redis-server is not installed; .ci/run does that")
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with proofs.apart():
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    wait_for(port)
    yield f"redis://127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of an empty PostgreSQL, which refuses to run as root."""
    if not (BINARIES / "initdb").exists():
        pytest.skip("postgresql is not installed; .ci/run does that")
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="postgresql-"))
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    os.chown(folder, user.pw_uid, user.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [str(BINARIES / program), "--pgdata", str(folder / "data"), *arguments]
        prefix = ["runuser", "-u", user.pw_name, "--"] if os.geteuid() == 0 else []
        with proofs.apart():
            subprocess.run([*prefix, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    run("initdb", "--auth", "trust", "--username", "search", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", options)
    yield f"postgresql://search:secret@127.0.0.1:{port}/postgres"
    run("pg_ctl", "stop", "--mode", "immediate")
    shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")
