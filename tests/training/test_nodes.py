"""Several nodes: two of them on this machine, and five hundred that are only pretended."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Say
from tests.support import forks, proofs
from tests.support.projects import (
    FRAMEWORKS,
    PARALLEL,
    SOAK,
    Project,
    by_framework,
    by_pair,
    rendered,
    write,
)
from tests.support.proofs import once

SHORT = ["--max_steps", "4", "--log_every", "1", "--model.width", "8", "--num_threads", "1"]
MOST_SECONDS = 300  # until two nodes have found each other, trained and ended


@dataclass(frozen=True)
class Network:
    """Two nodes that reach each other."""

    kind: str
    prefixes: tuple[tuple[str, ...], tuple[str, ...]]  # a command on each node begins with
    interfaces: tuple[str, str]
    address: str  # of the first node
    port: int


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def join_namespaces(stack: ExitStack) -> Network:
    """Two network namespaces with a cable between them; raises an error where they are not allowed."""
    names = [f"mlscaffold-{os.getpid()}-{node}" for node in range(2)]
    for name in names:
        ip("netns", "add", name)
        stack.callback(ip, "netns", "delete", name)
    ip("link", "add", "node0", "netns", names[0], "type", "veth", "peer", "name", "node1", "netns", names[1])
    for node, name in enumerate(names):
        ip("-n", name, "address", "add", f"10.77.0.{node + 1}/24", "dev", f"node{node}")
        ip("-n", name, "link", "set", f"node{node}", "up")
        ip("-n", name, "link", "set", "lo", "up")
    first, second = (("ip", "netns", "exec", name) for name in names)
    return Network("in network namespaces", (first, second), ("node0", "node1"), "10.77.0.1", 29500)


def loopback() -> Network:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Network("on the loopback interface", ((), ()), ("lo", "lo"), "127.0.0.1", port)


@pytest.fixture
def network() -> Iterator[Network]:
    with ExitStack() as stack:
        with suppress(OSError, subprocess.CalledProcessError):
            yield join_namespaces(stack)
            return
        yield loopback()


def project_of(framework: str, strategy: str, folder: Path) -> Project:
    files = rendered({"framework": framework, "strategy": strategy, "loggers": []})
    return Project(write(files, folder), "my_project")


def start_node(project: Project, network: Network, node: int, cold: bool) -> subprocess.Popen[str]:
    """Train with one process on each node, as its README says; it is a fork unless it is started `cold`."""
    torchrun = ["-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(node)]
    torchrun += ["--nproc-per-node", "1"]
    torchrun += ["--master-addr", network.address, "--master-port", str(network.port)]
    with proofs.apart():
        return subprocess.Popen(
            [*network.prefixes[node], forks.python(cold=cold), *torchrun, "-m", "my_project.train", *SHORT],
            cwd=project.folder,
            env={**project.settings, "GLOO_SOCKET_IFNAME": network.interfaces[node]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )


def train_on_two_nodes(project: Project, network: Network, cold: bool) -> str:
    """The metrics of the run; both nodes have to end well."""
    nodes = [start_node(project, network, node, cold) for node in range(2)]
    try:
        said = [node.communicate(timeout=MOST_SECONDS)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], said
    return (project.folder / "runs/0001/metrics.csv").read_text()


@pytest.mark.soak
@pytest.mark.cold
@by_pair(7)
def test_two_nodes_train_the_model_that_two_processes_train(
    network: Network, framework: str, strategy: str, tmp_path: Path, say: Say
) -> None:
    """In `make test` the nodes of one framework are started as a user does, those of others are forks."""
    project, cold = project_of(framework, strategy, tmp_path), SOAK or framework == FRAMEWORKS[0]
    network = network if cold else loopback()  # the server of forks is in no namespace
    metrics = train_on_two_nodes(project, network, cold)
    say(f"{framework} {strategy}: two nodes {network.kind}")
    project.run_fork("-m", "my_project.train", *SHORT, "--out_dir", "runs/one-node", processes=2)
    assert metrics == (tmp_path / "runs/one-node/metrics.csv").read_text()
    assert metrics.count("train/loss") == 4


MakeProject = Callable[[str, str], Project]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> MakeProject:
    return once(lambda framework, strategy: project_of(framework, strategy, tmp_path_factory.mktemp("p")))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of so many images that every one of 512 processes has some in each split."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 255, (2, 2050, 4, 4), dtype=np.uint8)
    for name, images_of_class in zip("ab", pixels, strict=True):
        (folder / name).mkdir()
        for number, image in enumerate(images_of_class):
            Image.fromarray(image).save(folder / name / f"{number}.bmp")
    return folder


@pytest.mark.parametrize("strategy", PARALLEL)
@by_framework(6, 7, 8)
def test_one_process_finds_that_512_can_train(
    projects: MakeProject, framework: str, strategy: str, images: Path
) -> None:
    project = projects(framework, strategy)
    settings = ["--data.root", str(images), "--data.batch_size", "2", "--model.width", "8"]
    said = project.run_fork("-m", "my_project.check_world", "--size", "512", *settings)
    assert said == "512 processes can train this: 1024 samples a step, 2 steps an epoch\n"
    assert not (project.folder / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("--size 512", "data.batch_size=64: the 1297 training samples are too few for one batch of 32768"),
        ("--size 256 --data.batch_size 4", "230 held-out samples are too few for 256 processes"),
    ],
)
def test_shares_that_would_be_empty_are_named(projects: MakeProject, settings: str, message: str) -> None:
    done = projects(FRAMEWORKS[0], PARALLEL[0]).start_fork("-m", "my_project.check_world", *settings.split())
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@by_framework(8)
def test_a_weight_that_cannot_be_sharded_is_found_without_a_cluster(framework: str, tmp_path: Path) -> None:
    project = project_of(framework, "fsdp", tmp_path)
    model = tmp_path / "src/my_project/task/model.py"
    layer = "self.dropout = nn.Dropout(cfg.dropout)"
    assert layer in model.read_text()
    model.write_text(model.read_text().replace(layer, f"{layer}\n        self.scale = _scale()") + SCALE)
    done = project.start_fork("-m", "my_project.check_world", "--size", "64", "--data.batch_size", "4")
    assert done.returncode != 0
    assert "scalar parameters" in done.stderr


SCALE = """

def _scale() -> nn.Parameter:
    import torch

    return nn.Parameter(torch.tensor(1.0))
"""
