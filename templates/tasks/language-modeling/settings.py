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

    The training core reads `batch_size` and `num_workers`; all else is the task's. An optimizer step sees
    `batch_size * window * optim.accumulate` tokens in each process.
    """

    path: File | None = None
    """text file, or folder of .txt files, in UTF-8; without it, the topics of Python's help()"""
    #: if pretrained == "transformers"
    pretrained: str | None = None
    """the model whose tokenizer is used: always that of model.pretrained; without it, one is learned"""
    #: endif
    vocabulary: Annotated[int, Field(ge=257)] = 1024
    """tokens that the tokenizer learns at most: the 256 bytes, the end of a text, and merges"""
    #: if pretrained == "none"
    tokenizer: File | None = None
    """tokenizer.json of a byte-level BPE to take instead of learning one"""
    #: endif
    window: Annotated[int, Field(ge=2)] = 128
    """tokens that the model sees at once"""
    epoch: Annotated[float, Field(gt=0, le=1)] = 0.125
    """share of the training text that an epoch sees, each time another one; validations follow epochs"""
    batch_size: PositiveInt = 8
    """windows per process and batch"""
    num_workers: NonNegativeInt = 0
    """loader processes per training process"""


#: if pretrained == "none"
@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: PositiveInt = 96
    """numbers that stand for a token; a multiple of heads"""
    depth: PositiveInt = 2
    """transformer blocks"""
    heads: PositiveInt = 4
    """attention heads of each block"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of each block's outputs that a training step leaves out"""


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

    monitor: str = "bits_per_byte"
    """score that chooses the best weights and ends a run early: bits_per_byte, perplexity or loss"""
