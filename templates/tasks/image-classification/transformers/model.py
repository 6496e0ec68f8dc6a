"""The network: a model of transformers that tells classes of images."""

import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import AutoModelForImageClassification

from .. import pretrained
from .settings import ModelConfig

SMALL: dict[str, Any] = {  # what is trained without `pretrained`: two layers, random weights
    "model_type": "vit",
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
SMALL_INPUTS: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 16, "width": 16},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}

rates = pretrained.rates


class Net(pretrained.Tuned):
    """Takes images [B, C, H, W] in 0..1; returns logits [B, num_classes].

    They are brought to the size and the number of channels that the model has, and are normalized as its weights
    expect: all this is part of what is exported.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, cfg: ModelConfig, model: Any, inputs: pretrained.Inputs) -> None:
        super().__init__(cfg, model, new_head=True)
        self.shape = inputs.shape
        self.register_buffer("mean", torch.tensor(inputs.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(inputs.deviation).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        channels, *size = self.shape
        if images.shape[1] != channels:
            images = images.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
        if [*images.shape[2:]] != size:
            images = interpolate(images, size, mode="bilinear")
        logits: Tensor = self.model(pixel_values=(images - self.mean) / self.deviation).logits
        return logits


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Net:
    """The network for this data. With `init` its first weights are set; without, they are about to be loaded."""
    names = dict(enumerate(about["classes"]))
    changes: dict[str, Any] = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    changes |= {"problem_type": "single_label_classification"}
    model = pretrained.build(cfg, AutoModelForImageClassification, assets, init, **changes)
    return Net(cfg, model, pretrained.Inputs(json.loads(assets[pretrained.PROCESSOR])))


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one: the layers."""
    return list(net.layers) if isinstance(net, Net) else []
