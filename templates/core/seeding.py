"""Randomness as a function of where a run is, so that any step can be repeated."""

import numpy as np
import torch
from torch import Tensor


def seed_for(*keys: int) -> int:
    """Mix whole numbers, such as (seed, epoch, step), into one seed; equal keys give equal seeds.

    NumPy's `SeedSequence` keeps neighbouring keys apart, which adding them up would not.
    """
    return int(np.random.SeedSequence(keys).generate_state(1)[0])


def generator(*keys: int) -> torch.Generator:
    """A generator for these keys, untouched by whatever else draws random numbers."""
    return torch.Generator().manual_seed(seed_for(*keys))


def seed_step(*keys: int) -> None:
    """Seed what dropout and the like draw from, on the CPU and on GPUs that are in use.

    `torch.manual_seed` does so too, but as long as no GPU is in use it formats the stack of its callers.
    """
    number = seed_for(*keys)
    for source in (torch.default_generator, *torch.cuda.default_generators):
        source.manual_seed(number)


def sample_seeds(seed: int, epoch: int, indices: list[int]) -> Tensor:
    """A seed for each sample [B] int64: f(seed, epoch, index), whatever batch or process a sample is in."""
    return _mix(torch.tensor(indices) + (seed_for(seed, epoch) << 31))


def uniform(seeds: Tensor, columns: int) -> Tensor:
    """Numbers in [0, 1), float32 [B, columns], from seeds [B]: randomness for augmentation."""
    return (_mix(seeds[:, None] + torch.arange(1, columns + 1)) & 0xFFFFFF).float() / 2**24


def _mix(x: Tensor) -> Tensor:
    """Scramble int64 so that neighbours share nothing (splitmix64's finalizer, Steele et al. 2014, on 63 bits)."""
    for shift, factor in (30, 0x3F58476D1CE4E5B9), (27, 0x14D049BB133111EB):
        x = (x ^ (x >> shift)) * factor & (2**63 - 1)
    return x ^ (x >> 31)
