"""What a search varies: the table to edit. Settings that are not in it stay as they are given.

Names are those of the settings, and `tune` checks values against their types before it begins.
"""

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)

SPACE: dict[str, BaseDistribution] = {
    "optim.lr": FloatDistribution(1e-5, 3e-3, log=True),
    "optim.weight_decay": FloatDistribution(1e-4, 1e-1, log=True),
    "optim.schedule": CategoricalDistribution(("cosine", "onecycle")),
    "model.layer_decay": FloatDistribution(0.6, 1.0),
    "model.head_rate": FloatDistribution(1.0, 10.0, log=True),
}
