"""The settings of the task. No torch here, so that `--help` answers at once."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from ..paths import File


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data.

    The training core reads `batch_size` and `num_workers`; all else is the task's.
    """

    path: File | None = None
    """CSV or Parquet file with a header; without it, the data set named by `example`"""
    target: str = "target"
    """column to predict"""
    kind: Literal["auto", "classification", "regression"] = "auto"
    """what the target is; auto: classes, if it is text or has at most 20 different whole numbers"""
    ignore: str = ""
    """columns that are not used, with commas between them, such as id,name"""
    example: Literal["breast_cancer", "wine", "diabetes"] = "breast_cancer"
    """data set of scikit-learn; diabetes is a regression"""
    group: str = ""
    """column whose equal rows stay in one split, such as a customer or an id; without it, rows that are all the same"""
    fold: NonNegativeInt = 0
    """which of the `folds` is the validation split, from 0"""
    folds: NonNegativeInt = 0
    """for cross-validation: into how many parts what is not tested is divided; 0: one fixed validation split"""
    batch_size: PositiveInt = 32
    """rows per process and batch"""
    num_workers: NonNegativeInt = 0
    """loader processes per training process"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: PositiveInt = 64
    """units of each hidden layer"""
    depth: PositiveInt = 2
    """hidden layers"""
    embedding: PositiveInt = 8
    """numbers that stand for a category"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of the units that a training step leaves out"""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Objective.

    The training core reads `monitor`; all else is the task's.
    """

    monitor: str = ""
    """score that chooses the best weights and ends a run early: accuracy, f1 or loss of classes; r2, rmse or loss of
    numbers; without it accuracy or r2"""
