"""The kits in examples/kits are proved as their teams would prove them, and their scripts are sound."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import forks
from tests.support.command import mlscaffold
from tests.support.projects import SOAK

KITS = ("research-lab", "product-team")


@pytest.mark.long
@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", KITS)
def test_an_example_kit_renders_all_that_it_allows_and_trains(
    repository: Path, tmp_path: Path, name: str
) -> None:
    """`make test` trains the four projects of the first kit, `make soak` those of each."""
    kit = repository / "examples/kits" / name
    trains = SOAK or name == KITS[0]
    python, flags = (forks.python(), ["--train"]) if trains else (Path(sys.executable), [])
    checked = mlscaffold("kit", "check", kit, *flags, cwd=tmp_path, patience_s=800, python=python)
    assert (checked.code, checked.err) == (0, "")
    assert (f"{name}: trained " in checked.out) == trains


def test_a_project_of_the_lab_has_a_job_script_that_bash_reads(repository: Path, tmp_path: Path) -> None:
    made = mlscaffold("new", "digits", "--kit", repository / "examples/kits/research-lab", cwd=tmp_path)
    assert made.code == 0
    script = tmp_path / "digits/scripts/train.sh"
    for file in (script, tmp_path / "digits/launch/slurm.sh", tmp_path / "digits/launch/search.sh"):
        assert subprocess.run(["bash", "-n", file], check=False).returncode == 0
    assert "exec sbatch --partition=gpu " in script.read_text()
    assert script.stat().st_mode & 0o100


def test_a_project_of_the_team_has_its_owners_and_its_checks(repository: Path, tmp_path: Path) -> None:
    kit = repository / "examples/kits/product-team"
    made = json.loads(mlscaffold("new", "digits", "--kit", kit, "--json", cwd=tmp_path).out)
    assert made["answers"]["serving"] == "fastapi"
    owners = (tmp_path / "digits/CODEOWNERS").read_text()
    assert owners == "* @acme/vision\n/src/digits/serving/ @acme/vision @acme/platform\n"
    jobs = yaml.safe_load((tmp_path / "digits/.github/workflows/checks.yml").read_text())["jobs"]
    assert [step["run"] for step in jobs["checks"]["steps"] if "run" in step][-1] == "pytest"
