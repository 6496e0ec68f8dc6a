"""Settings of the task."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Points around a ring of modes."""

    num_points: int = 500
    """points to train on"""
    batch_size: int = 32
    """points per process and batch"""
    num_workers: int = 0
    """loader processes per training process"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: int = 32
    """units of each hidden layer"""
    noise: int = 8
    """numbers that a point is made of"""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Objective."""

    monitor: str = "near"
    """score that chooses the best weights"""
