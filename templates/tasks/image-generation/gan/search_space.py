"""What a search varies: the table to edit. Settings that are not in it stay as they are given.

Names are those of the settings, and `tune` checks values against their types before it begins.
"""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "optim.lr": FloatDistribution(3e-4, 1e-2, log=True),
    "optim.weight_decay": FloatDistribution(1e-4, 1e-1, log=True),
    "objective.penalty": FloatDistribution(0.01, 1.0, log=True),
    "model.width": IntDistribution(32, 128, step=32),
    "model.depth": IntDistribution(2, 4),
}
