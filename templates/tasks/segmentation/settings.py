"""The settings of the task. No torch here, so that `--help` answers at once."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from ..paths import File


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data.

    The training core reads `batch_size` and `num_workers`; all else is the task's.
    """

    root: File | None = None
    """folder with `images/`, `masks/` and `classes.txt`; without it, handwritten digits on photographs"""
    size: tuple[PositiveInt, PositiveInt] = (256, 256)
    """height and width that images and masks of a folder are scaled to"""
    skip_bad: bool = False
    """leave out images and masks that cannot be used, and say which"""
    flip: bool = True
    """mirror every second training image, drawn anew in each epoch"""
    shift: NonNegativeFloat = 0.1
    """how far a training image moves at most, as a share of its size; 0 leaves it in place"""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """how much larger or smaller a training image becomes at most, as a share of its size"""
    fold: NonNegativeInt = 0
    """which of the `folds` is the validation split, from 0"""
    folds: NonNegativeInt = 0
    """for cross-validation: into how many parts what is not tested is divided; 0: one fixed validation split"""
    batch_size: PositiveInt = 16
    """samples per process and batch"""
    num_workers: NonNegativeInt = 0
    """loader processes per training process"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: PositiveInt = 8
    """channels at full size; each halving of the size doubles them"""
    depth: PositiveInt = 3
    """how often the size is halved"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of the features before the last layer that a training step leaves out"""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Objective.

    The training core reads `monitor`; all else is the task's.
    """

    monitor: str = "iou"
    """score that chooses the best weights and ends a run early: iou, dice, accuracy or loss"""
    dice: NonNegativeFloat = 1.0
    """weight of the Dice loss; cross-entropy has 1"""
