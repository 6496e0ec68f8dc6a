"""Randomness as a function of where a run is, so that any step can be repeated."""

from functools import lru_cache

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


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed what dropout and the like draw from in this step, on the CPU and on GPUs that are in use.

    `torch.manual_seed` does so too, but as long as no GPU is in use it formats the stack of its callers.
    """
    number = _seeds_of_steps(seed, step // 64, rank)[step % 64]
    for source in (torch.default_generator, *torch.cuda.default_generators):
        source.manual_seed(number)


@lru_cache(maxsize=1)
def _seeds_of_steps(seed: int, block: int, rank: int) -> list[int]:
    """The seeds of 64 steps; one after the other they take less time than each in its step, with cold caches."""
    return [seed_for(seed, step, rank) for step in range(64 * block, 64 * block + 64)]
