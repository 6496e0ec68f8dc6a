"""The settings of a pretrained model that is trained further. No torch here, so that `--help` answers at once."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Model."""

    pretrained: str | None = None
    """folder or hub id of the model to start from; without it, a small one with random weights, to try things out"""
    frozen_layers: Annotated[int, Field(ge=-1)] = 0
    """layers that stay as they are, the first ones, with what comes before them; -1 trains the head alone"""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """factor of the learning rate from each layer to the one before it"""
    head_rate: NonNegativeFloat = 1.0
    """factor of the learning rate of the head"""
    lora_rank: NonNegativeInt = 0
    """rank of LoRA adapters, which are trained in place of the model's weights; 0 trains these"""
    lora_alpha: PositiveFloat = 16.0
    """what adapters add is multiplied by lora_alpha / lora_rank"""
    lora_dropout: Share = 0.0
    """share of an adapter's inputs that a training step leaves out"""
    lora_targets: str = ""
    """modules that get adapters, by their names or ends of them, with commas; without it, all linear ones"""
