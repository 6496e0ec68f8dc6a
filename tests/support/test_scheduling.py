"""Tests that share what is made once for their module run in one process; others would make it again."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.releases import ROOT, clean_settings

OPTIONS = ("-c", ROOT / "pyproject.toml")
TESTS = """
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def made_once() -> None:
    pass


@pytest.mark.parametrize("number", range(6))
def test_something(made_once: None, number: int) -> None:
    Path(__file__).with_suffix(f".{os.environ['PYTEST_XDIST_WORKER']}").touch()
"""


def test_what_is_made_once_for_a_module_is_made_in_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "tool"
    folder.mkdir()
    (tmp_path / "conftest.py").write_text("from tests.conftest import *")
    for name in ("test_one.py", "test_two.py"):
        (folder / name).write_text(TESTS)
    subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, "--rootdir", tmp_path, "-n", "2", folder],
        cwd=tmp_path,
        env=clean_settings() | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "FRESH": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    for name in ("test_one", "test_two"):
        assert len(list(folder.glob(f"{name}.gw*"))) == 1
