"""A picture is copied only where nothing but its numbers differs from an earlier one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pytest.fixture(autouse=True)
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", Figure.savefig)  # and take back what follows
    pictures.remember(tmp_path / "known")


def curve(title: str, heights: tuple[float, ...] = (1.0, 2.0), scale: str = "linear") -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    axes.plot(range(len(heights)), heights)
    axes.set(title=title, yscale=scale)
    return figure


def content(figure: "Figure", path: Path) -> bytes:
    figure.savefig(path)
    return path.read_bytes()


def test_other_numbers_give_a_picture_that_is_known(tmp_path: Path) -> None:
    first = content(curve("loss 1"), tmp_path / "first.png")
    assert content(curve("loss 2e-3", (2.0, 1.0)), tmp_path / "second.png") == first


@pytest.mark.parametrize(
    "other",
    [
        ("another",),
        ("loss 1", (1.0,)),
        ("loss 1", (1.0, float("nan"))),
        ("loss 1", (1.0, -2.0)),
        ("loss 1", (1.0, 2.0), "log"),
    ],
    ids=["text", "one point", "no number", "below zero", "scale"],
)
def test_whatever_else_differs_is_rendered(other: tuple[Any, ...], tmp_path: Path) -> None:
    first = content(curve("loss 1"), tmp_path / "first.png")
    assert content(curve(*other), tmp_path / "other.png") != first


def test_a_text_that_cannot_be_drawn_fails_as_it_would_without(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"):
        curve(r"a$\bad$").savefig(tmp_path / "bad.png")
