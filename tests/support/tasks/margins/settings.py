"""Settings of the task."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Handwritten digits."""

    batch_size: int = 60
    """samples per process and batch"""
    num_workers: int = 0
    """loader processes per training process"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: int = 48
    """of the hidden layer"""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Objective."""

    monitor: str = "accuracy"
    """score that chooses the best weights"""
    margin: float = 0.2
    """what the cosine to the right center has to be ahead"""
