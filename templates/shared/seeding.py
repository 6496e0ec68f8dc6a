"""Randomness as a function of where a run is, so that any step can be repeated."""

import numpy as np
import torch


def seed_for(*keys: int) -> int:
    """Mix whole numbers, such as (seed, epoch, step), into one seed; equal keys give equal seeds.

    NumPy's `SeedSequence` keeps neighbouring keys apart, which adding them up would not.
    """
    return int(np.random.SeedSequence(keys).generate_state(1)[0])


def generator(*keys: int) -> torch.Generator:
    """A generator of its own for these keys, untouched by whatever else draws random numbers."""
    return torch.Generator().manual_seed(seed_for(*keys))


def seed_step(*keys: int) -> None:
    """Seed what dropout and the like draw from in this step, on the CPU and on this process's GPU.

    `torch.manual_seed` does so too, but as long as no GPU is in use it formats the stack of its callers.
    """
    seed = seed_for(*keys)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
