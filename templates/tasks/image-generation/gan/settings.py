"""The settings of the task. No torch here, so that `--help` answers at once."""

from dataclasses import dataclass

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data.

    The training core reads `batch_size` and `num_workers`; all else is the task's.
    """

    repeat: PositiveInt = 1
    """how often each image comes in an epoch, each time with other noise"""
    batch_size: PositiveInt = 64
    """samples per process and batch"""
    num_workers: NonNegativeInt = 0
    """loader processes per training process"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model: the generator and the discriminator, which are of the same size."""

    width: PositiveInt = 64
    """features of each patch"""
    depth: PositiveInt = 2
    """number of blocks"""
    patch: PositiveInt = 2
    """pixels along each side of a patch; the size of images has to be a multiple of it"""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Objective.

    The training core reads `monitor`; all else is the task's.
    """

    monitor: str = "frechet"
    """score that chooses the best weights and ends a run early: frechet or spread"""
    penalty: NonNegativeFloat = 0.1
    """how much a discriminator pays for being steep: more is steadier, less is sharper"""
