"""A model of transformers with its normalization, made on the spot: small, and of no use but for tests."""

import json

import torch
from transformers import AutoModelForImageClassification as Auto
from transformers import ViTConfig

NAMES = ("q_proj", "v_proj", "query", "value")  # of modules that can have adapters

MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def save(folder, **changes):
    """Write it into a folder."""
    said = {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps({**said, "image_mean": MEAN, "image_std": DEVIATION}))
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    torch.manual_seed(0)
    Auto.from_config(ViTConfig(**{**sizes, "intermediate_size": 64, **changes})).save_pretrained(folder)


def ask(net, plain):
    """Logits of the network of the project, and those of plain transformers, of the same inputs."""
    images = torch.rand(2, 3, 16, 16)
    mean, deviation = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (MEAN, DEVIATION))
    return net(images), plain(pixel_values=(images - mean) / deviation).logits
