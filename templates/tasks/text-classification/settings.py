"""The settings of the task. No torch here, so that `--help` answers at once."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

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

    path: File | None = None
    """CSV file with a header, JSON lines (.jsonl) or Parquet; without it, phrases in 15 languages"""
    text: str = "text"
    """column of the texts"""
    label: str = "label"
    """column of their classes"""
    group: str = ""
    """column whose rows stay together in one split, such as the document of a sentence; without it, equal texts do"""
    #: if pretrained == "none"
    max_bytes: PositiveInt = 1024
    """bytes of a text in UTF-8 that the model reads; longer ones are cut"""
    #: endif
    #: if pretrained == "transformers"
    pretrained: str | None = None
    """the model whose tokenizer is used: always that of model.pretrained"""
    max_tokens: Annotated[int, Field(ge=4)] = 128
    """tokens of a text that the model reads; longer ones are cut"""
    #: endif
    fold: NonNegativeInt = 0
    """which of the `folds` is the validation split, from 0"""
    folds: NonNegativeInt = 0
    """for cross-validation: into how many parts what is not tested is divided; 0: one fixed validation split"""
    batch_size: PositiveInt = 64
    """texts per process and batch"""
    num_workers: NonNegativeInt = 0
    """loader processes per training process"""


#: if pretrained == "none"
@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: PositiveInt = 32
    """numbers that stand for an n-gram"""
    ngrams: PositiveInt = 4
    """bytes of the longest n-grams; all from one byte on are read"""
    buckets: Annotated[int, Field(ge=2)] = 2**16
    """rows of the table that n-grams share; more of them share less"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
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
