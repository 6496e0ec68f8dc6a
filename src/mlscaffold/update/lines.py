"""Merge the lines of a file that two sides changed.

To git it is a conflict, too, when one side changes a line and the other the line beside it. Here only changes
of the same lines are one, or two insertions at the same place: what a user wrote outside the lines that the
template changed stays, wherever it stands. Where one side changed no more than the layout of lines, the other
side's lines are taken.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Lines = list[str]  # with their line ends


@dataclass(frozen=True, order=True)
class Hunk:
    """One side replaced the lines [start, stop) of the base; an insertion replaces none."""

    start: int
    stop: int
    lines: tuple[str, ...]


@dataclass
class Region:
    """Lines [start, stop) of the base that changes of one side or of both cover."""

    start: int
    stop: int
    ours: list[Hunk]
    theirs: list[Hunk]

    def meets(self, hunk: Hunk) -> bool:
        """Whether a hunk that begins here or later changes lines of this region too."""
        return hunk.start < self.stop or (self.start, self.stop) == (hunk.start, hunk.stop)


@dataclass
class Result:
    """Merged lines, whether markers of a conflict were needed, and whether a layout of ours went."""

    lines: Lines
    conflict: bool = False
    relaid: bool = False


def merge_lines(
    base: Lines,
    ours: Sequence[Hunk],
    theirs: Sequence[Hunk],
    label: str,
    is_layout: Callable[[Lines], bool] = lambda _: False,
) -> Result:
    """Merge the changes of both sides; `is_layout` tells lines of the base that are laid out anew."""
    result: Lines = []
    merged = Result(result)
    position = 0
    for region in _regions(ours, theirs):
        result += base[position : region.start]
        position = region.stop
        mine, other = _applied(base, region, region.ours), _applied(base, region, region.theirs)
        if not region.theirs or mine == other:
            result += mine
        elif not region.ours:
            result += other
        elif is_layout([*base[: region.start], *mine, *base[region.stop :]]):
            merged.relaid = True
            result += other
        elif is_layout([*base[: region.start], *other, *base[region.stop :]]):
            result += mine
        else:
            merged.conflict = True
            result += ["<<<<<<< yours\n", *_ended(mine), "=======\n", *_ended(other), f">>>>>>> {label}\n"]
    result += base[position:]
    return merged


def _regions(ours: Iterable[Hunk], theirs: Iterable[Hunk]) -> list[Region]:
    sides = sorted([*((hunk, 0) for hunk in ours), *((hunk, 1) for hunk in theirs)])
    regions: list[Region] = []
    for hunk, side in sides:
        if not regions or not regions[-1].meets(hunk):
            regions.append(Region(hunk.start, hunk.stop, [], []))
        region = regions[-1]
        region.stop = max(region.stop, hunk.stop)
        (region.theirs if side else region.ours).append(hunk)
    return regions


def _applied(base: Lines, region: Region, hunks: Iterable[Hunk]) -> Lines:
    """The lines of a region as one side has them."""
    result: Lines = []
    position = region.start
    for hunk in hunks:
        result += [*base[position : hunk.start], *hunk.lines]
        position = hunk.stop
    return result + base[position : region.stop]


def _ended(lines: Lines) -> Lines:
    """Let a last line without a line end have one, so that a marker begins a line."""
    return [*lines[:-1], lines[-1] if lines[-1].endswith("\n") else f"{lines[-1]}\n"] if lines else []
