"""A model of transformers with its tokenizer, made on the spot: small, and of no use but for tests."""

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM as Auto
from transformers import LlamaConfig, PreTrainedTokenizerFast

from my_project import tokens

NAMES = ("q_proj", "v_proj")  # of modules that can have adapters


def save(folder, **changes):
    """Write it into a folder."""
    tokenizer = Tokenizer.from_str(tokens.train(["the quick brown fox jumps over the lazy dog"] * 3, 290).decode())
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=tokens.END).save_pretrained(folder)
    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = LlamaConfig(**{**sizes, "intermediate_size": 64, "max_position_embeddings": 64, **changes})
    torch.manual_seed(0)
    Auto.from_config(config).save_pretrained(folder)


def ask(net, plain):
    """Logits of the network of the project, and those of plain transformers, of the same inputs."""
    given = torch.randint(0, 256, (2, 9))
    ours = net(given)
    return ours, plain(input_ids=given).logits[:, :, : ours.shape[-1]]
