"""The settings of the task. No torch here, so that `--help` answers at once."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data.

    The training core reads `batch_size` and `num_workers`; all else is the task's.
    """

    repeat: PositiveInt = 2
    """how often each image comes in an epoch, each time with other noise"""
    batch_size: PositiveInt = 64
    """samples per process and batch"""
    num_workers: NonNegativeInt = 0
    """loader processes per training process"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: PositiveInt = 64
    """features of each patch"""
    depth: PositiveInt = 2
    """number of blocks"""
    patch: PositiveInt = 2
    """pixels along each side of a patch; the size of images has to be a multiple of it"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of the features in each block that a training step leaves out"""
    steps: PositiveInt = 8
    """steps from noise to an image, each of which asks the network twice"""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Objective.

    The training core reads `monitor`; all else is the task's.
    """

    monitor: str = "frechet"
    """score that chooses the best weights and ends a run early: frechet, spread or loss"""
