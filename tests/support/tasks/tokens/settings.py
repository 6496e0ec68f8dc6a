"""Settings of the task."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Texts of a random walk over tokens."""

    num_texts: int = 230
    """texts to train on"""
    longest: int = 60
    """tokens of the longest text; the shortest has 2, most are short"""
    batch_size: int = 16
    """texts per process and batch"""
    num_workers: int = 0
    """loader processes per training process"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model."""

    width: int = 32
    """numbers that stand for a token"""
    context: int = 3
    """tokens that the next one is guessed from"""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Objective."""

    monitor: str = "perplexity"
    """score that chooses the best weights"""
