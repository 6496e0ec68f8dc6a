"""Noise that images are made of: a function of seeds, the same in every batch and process."""

import math

import torch
from torch import Tensor

from .seeding import sample_seeds, uniform

MOST = 2**31  # seeds are below it


def normal(seeds: Tensor, columns: int) -> Tensor:
    """Standard normal numbers [B, columns] from seeds [B]; the first ones are the same for any number of columns."""
    chance = uniform(seeds, columns + columns % 2)
    radius, angle = (-2 * (1 - chance[:, ::2]).log()).sqrt(), 2 * math.pi * chance[:, 1::2]  # Box and Muller 1958
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=2).flatten(1)[:, :columns]


def seeds_of(numbers: list[int]) -> Tensor:
    """Seeds for numbers that a user gives, and for the samples of a split that is measured."""
    return sample_seeds(0, 0, numbers)
