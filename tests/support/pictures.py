"""Pictures in forks: rendering takes half of a short run, so one that is like an earlier one is copied.

Like another is what has the same texts, but for numbers, the same size and as many parts, whose curves can be
drawn for the same reason. Whatever else it is, such as the name of a class that is no text, is rendered.
A program that is started cold renders all of its own.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure


def remember(folder: Path) -> None:
    """Let this process and its forks keep what they render in a folder."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    render = Figure.savefig

    def savefig(figure: "Figure", path: Any, **options: Any) -> None:
        if not isinstance(path, str | os.PathLike):
            render(figure, path, **options)
            return
        like = (Path(path).suffix, options, figure.get_size_inches().tolist(), *features(figure))
        known = folder / hashlib.sha256(repr(like).encode()).hexdigest()
        if not known.exists():
            render(figure, path, **options)
            copy = folder / f"{known.name}.{os.getpid()}"
            shutil.copy(path, copy)
            copy.replace(known)
        shutil.copy(known, path)

    Figure.savefig = savefig  # type: ignore[assignment, method-assign]


def features(figure: "Figure") -> Iterator[object]:
    """What can make a picture fail or look otherwise, but for numbers."""
    from matplotlib.axis import Axis
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    for artist in parts(figure):
        told: list[object] = [type(artist).__name__]
        if isinstance(artist, Text):
            told.append(without_numbers(artist.get_text()))
        elif isinstance(artist, Axis):
            labels = getattr(artist.get_major_formatter(), "seq", ())  # where they were given
            told += [artist.get_scale(), [without_numbers(str(label)) for label in labels]]
        elif isinstance(artist, Line2D):
            heights = np.asarray(artist.get_ydata(), dtype=float)
            told += [min(len(heights), 2), bool(np.isfinite(heights).all()), bool((heights > 0).all())]
        yield told


def parts(artist: "Artist") -> Iterator["Artist"]:
    """An artist and all that it is made of, but for the ticks of axes: they would be made only now."""
    from matplotlib.axis import Axis

    yield artist
    for child in [artist.label] if isinstance(artist, Axis) else artist.get_children():
        yield from parts(child)


def without_numbers(text: str) -> str:
    return re.sub(r"\d[-+.e\d]*", "0", text)
