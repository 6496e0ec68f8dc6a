"""The tutorial does what it says: its page is read, its commands run, its changes made."""

from pathlib import Path

import pytest

from tests.support.pages import Reader, section
from tests.support.projects import FRAMEWORKS, by_framework

TABLE = ("A project", "Your data", "Your model", "Your loss", "A served model")


@by_framework()
def test_a_csv_file_becomes_a_served_model_with_a_network_and_a_loss_of_ones_own(
    framework: str, tmp_path: Path
) -> None:
    with Reader(tmp_path, framework) as reader:
        for title in TABLE:
            reader.follow(section("tutorial.md", title))
        runs = reader.folder / "runs"
        assert "wide: true" in (runs / "0002/config.yaml").read_text()
        assert (runs / "0002/export/model.onnx").exists()
        assert "finished" in (runs / "0002/run.json").read_text()
        assert reader.count == 15


@pytest.mark.long
@pytest.mark.cold
def test_a_folder_of_images_becomes_a_served_model_as_a_user_starts_it(tmp_path: Path) -> None:
    with Reader(tmp_path, FRAMEWORKS[0], cold=True) as reader:
        reader.follow(section("tutorial.md", "The same with images"))
        assert '"label":"' in reader.said
        assert (reader.folder / ".venv/bin/python").exists()
        assert reader.count == 11
