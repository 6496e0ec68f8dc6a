"""A run that ends in any way goes on as if it had not ended, and nothing that was saved is lost."""

import shutil
from pathlib import Path

from tests.projects import Project, by_framework, rendered, write

OLD = Path(__file__).with_name("schema-1")  # runs of release 0.1.0, stopped after two of three epochs


def without_loggers(framework: str, folder: Path) -> Project:
    return Project(write(rendered({"framework": framework, "loggers": []}), folder), "my_project")


@by_framework(26)
def test_a_run_of_release_0_1_0_goes_on_with_the_numbers_it_would_have_had(
    framework: str, tmp_path: Path
) -> None:
    project = without_loggers(framework, tmp_path)
    old = shutil.copytree(OLD / framework, tmp_path / "old")
    project.run(
        "-m", "my_project.train", "--config", "old/config.yaml", "--out_dir", "old", "--resume", "auto"
    )
    assert (old / "metrics.csv").read_text() == (old / "whole.csv").read_text()
    manifest = (old / "checkpoints/step-00000015.json").read_text()
    assert '"schema": 2' in manifest


@by_framework(26)
def test_best_weights_of_release_0_1_0_still_predict(framework: str, tmp_path: Path) -> None:
    project = without_loggers(framework, tmp_path)
    shutil.copytree(OLD / framework, tmp_path / "old")
    assert "test/accuracy" in project.run("-m", "my_project.evaluate", "--run", "old")
