"""The network: a small GPT, a transformer in which a token sees only those before it."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, scaled_dot_product_attention

from ..errors import UserError
from .settings import ModelConfig

Cache = list[list[Tensor]]  # keys and values [B, heads, T, width / heads] of each block, for the tokens so far


class Block(nn.Module):
    """Attention, then two linear layers, each on normalized inputs and added to them."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.norm1, self.norm2 = nn.LayerNorm(cfg.width), nn.LayerNorm(cfg.width)
        self.attend = nn.Linear(cfg.width, 3 * cfg.width, bias=False)
        self.project = nn.Linear(cfg.width, cfg.width, bias=False)
        self.expand = nn.Linear(cfg.width, 4 * cfg.width, bias=False)
        self.contract = nn.Linear(4 * cfg.width, cfg.width, bias=False)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor, bias: Tensor, past: list[Tensor] | None = None) -> Tensor:
        """From x [B, T, width], and what is added to the attention [heads, T, all tokens]; extends `past`."""
        batch, length, width = x.shape
        parts = self.attend(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, *memory = parts.permute(2, 0, 3, 1, 4).unbind()
        if past is not None:
            past[:] = [torch.cat(both, dim=2) for both in zip(past, memory, strict=True)] if past else memory
            memory = past
        mixed = scaled_dot_product_attention(query, memory[0], memory[1], attn_mask=bias[None])
        x = x + self.dropout(self.project(mixed.transpose(1, 2).reshape(batch, length, width)))
        result: Tensor = x + self.dropout(self.contract(gelu(self.expand(self.norm2(x)))))
        return result


class Net(nn.Module):
    """Takes tokens [B, T] with T up to the window; returns logits [B, T, num_tokens] of each next one.

    With a cache, which begins empty, tokens are those that follow the ones before. The head's weights are the
    embedding, too. Of positions it knows distances alone: the farther a token, the less each head attends to it, by a
    slope of its own (ALiBi, Press et al. 2022, arXiv:2108.12409), which is learned from fewer texts than embeddings.
    """

    slopes: Tensor

    def __init__(self, cfg: ModelConfig, num_tokens: int) -> None:
        super().__init__()
        slopes = 2.0 ** (-8 * torch.arange(1, cfg.heads + 1) / cfg.heads)
        self.register_buffer("slopes", slopes, persistent=False)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.depth))
        self.norm = nn.LayerNorm(cfg.width)
        self.head = nn.Linear(cfg.width, num_tokens, bias=False)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        first = cache[0][0].shape[2] if cache else 0
        if cache is not None and not cache:
            cache += [[] for _ in self.blocks]
        places = torch.arange(first + tokens.shape[1], device=tokens.device)
        distances = places[first:, None] - places
        bias = (-self.slopes[:, None, None] * distances).masked_fill(distances < 0, -math.inf)
        x = embedding(tokens, self.head.weight)
        for number, block in enumerate(self.blocks):
            x = block(x, bias, cache[number] if cache else None)
        logits: Tensor = self.head(self.norm(x))
        return logits


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Net:
    """The network for this data. With `init` its first weights are set; without, they are about to be loaded."""
    if cfg.width % cfg.heads:
        raise UserError(f"model.width={cfg.width}: give a multiple of model.heads={cfg.heads}.")
    net = Net(cfg, about["num_tokens"])
    if init:
        for name, weight in net.named_parameters():
            if weight.ndim > 1:  # as in GPT-2: what is added to the sum of all blocks begins smaller
                added = name.endswith(("project.weight", "contract.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * cfg.depth) if added else 0.02)
    return net


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one."""
    return [*net.get_submodule("blocks").children()]
