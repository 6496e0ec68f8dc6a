"""The network: a model of transformers that reads tokens and tells classes."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from .. import pretrained
from .settings import ModelConfig

SMALL: dict[str, Any] = {  # what is trained without `pretrained`: two layers, random weights
    "model_type": "bert",
    "vocab_size": 257,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
}

rates = pretrained.rates


class Net(pretrained.Tuned):
    """Takes texts as tokens [B, L] int64, of which those below 0 fill rows up; returns logits [B, num_classes]."""

    def __init__(self, cfg: ModelConfig, model: Any, most: int) -> None:
        super().__init__(cfg, model, new_head=True)
        self.most, self.padding = most, model.config.pad_token_id

    def forward(self, tokens: Tensor) -> Tensor:
        known = tokens >= 0
        rows = torch.where(known, tokens, self.padding)
        logits: Tensor = self.model(input_ids=rows, attention_mask=known.long()).logits
        return logits


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Net:
    """The network for this data. With `init` its first weights are set; without, they are about to be loaded."""
    names = dict(enumerate(about["classes"]))
    changes: dict[str, Any] = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    changes |= {"pad_token_id": about["padding"], "problem_type": "single_label_classification"}
    model = pretrained.build(cfg, AutoModelForSequenceClassification, assets, init, **changes)
    return Net(cfg, model, about["max_tokens"])


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one: the layers."""
    return list(net.layers) if isinstance(net, Net) else []
