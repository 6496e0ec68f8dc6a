"""The network: a model of transformers that tells the next token."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache

from .. import pretrained
from ..errors import UserError
from .settings import ModelConfig

SMALL: dict[str, Any] = {  # what is trained without `pretrained`: two layers, random weights
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 0,
}

Cache = list[Any]  # empty at first; then it holds the keys and values of the tokens so far

rates = pretrained.rates


class Net(pretrained.Tuned):
    """Takes tokens [B, T] with T up to the window; returns logits [B, T, num_tokens] of each next one.

    With a cache, which begins empty, tokens are those that follow the ones before.
    """

    def __init__(self, cfg: ModelConfig, model: Any, about: dict[str, Any]) -> None:
        super().__init__(cfg, model, new_head=False)
        self.most, self.num_tokens, self.config = about["window"], about["num_tokens"], model.config

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        if cache is not None and not cache:
            cache.append(DynamicCache(config=self.config))
        past = cache[0] if cache else None
        found = self.model(input_ids=tokens, past_key_values=past, use_cache=past is not None).logits
        logits: Tensor = found[:, :, : self.num_tokens]  # a model may have rows that no token of its tokenizer uses
        return logits


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Net:
    """The network for this data. With `init` its first weights are set; without, they are about to be loaded."""
    net = Net(cfg, pretrained.build(cfg, AutoModelForCausalLM, assets, init), about)
    if cfg.pretrained and init:
        check_causal(net, cfg)
    return net.train()


@torch.no_grad()
def check_causal(net: Net, cfg: ModelConfig) -> None:
    """See whether tokens are predicted from those before them alone, which some models do only if they are told to."""
    first, second = net.eval()(torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]]))
    *before, last = (first - second).abs().amax(dim=1).tolist()
    if max(before) > 1e-3 * last:
        wrong = "its tokens see those after them, so it cannot learn to continue a text"
        raise UserError(f"model.pretrained={cfg.pretrained}: {wrong}. Give a causal model, such as GPT-2.")


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one: the layers."""
    return list(net.layers) if isinstance(net, Net) else []
