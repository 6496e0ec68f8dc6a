"""The settings of the task. No torch here, so that `--help` answers at once."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

#: if pretrained == "none"
from ..paths import File


#: endif
#: if pretrained == "transformers"
from ..paths import File
from ..tuning import Tuning


#: endif
@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data.

    The training core reads `batch_size` and `num_workers`; all else is the task's.
    """

    root: File | None = None
    """folder with a folder of images per class; without it, scikit-learn's handwritten digits"""
    #: if pretrained == "transformers"
    pretrained: str | None = None
    """the model for which images are scaled: always that of model.pretrained"""
    #: endif
    skip_bad: bool = False
    """leave out images that cannot be read, and say which"""
    shift: NonNegativeFloat = 0.125
    """how far a training image moves at most, as a share of its size; 0 leaves it in place"""
    fold: NonNegativeInt = 0
    """which of the `folds` is the validation split, from 0"""
    folds: NonNegativeInt = 0
    """for cross-validation: into how many parts what is not tested is divided; 0: one fixed validation split"""
    batch_size: PositiveInt = 64
    """samples per process and batch"""
    num_workers: NonNegativeInt = 0
    """loader processes per training process"""


#: if pretrained == "none"
@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: PositiveInt = 32
    """channels of the first block; each later one has twice as many"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of the features that a training step leaves out"""


#: endif
#: if pretrained == "transformers"
@dataclass(frozen=True, kw_only=True)
class ModelConfig(Tuning):
    """Model: all that `tuning` has; settings of your own stand here."""


#: endif
@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Objective.

    The training core reads `monitor`; all else is the task's.
    """

    monitor: str = "accuracy"
    """score that chooses the best weights and ends a run early: accuracy, f1 or loss"""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of each target that is spread evenly over all classes"""
