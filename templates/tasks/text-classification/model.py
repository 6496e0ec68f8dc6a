"""The network: a bag of n-grams of bytes, each with a row of a table that it shares with others."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .settings import ModelConfig

FACTOR, PRIME = 1_000_003, 2**31 - 1  # of a rolling hash, whose products fit into int64
GAIN = 30.0  # lets rows that few steps reach, at the rate of all other weights, say enough
BLANK = 32


class Net(nn.Module):
    """Takes texts as bytes [B, L] uint8, of which 0 fills rows up; returns logits [B, num_classes].

    An n-gram is found by its hash, so there is no vocabulary, and any language can be read. What fills a text up has
    the row 0 of the table, which stays 0, so an answer does not depend on the texts beside it.
    """

    def __init__(self, cfg: ModelConfig, num_classes: int) -> None:
        super().__init__()
        self.ngrams, self.buckets = cfg.ngrams, cfg.buckets
        self.table = nn.Embedding(cfg.buckets, cfg.width, padding_idx=0)
        nn.init.normal_(self.table.weight[1:], std=0.001)  # so that n-grams that training does not meet say little
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.width, num_classes)

    def forward(self, texts: Tensor) -> Tensor:
        rows = self.find(enclose(texts.long()))
        features = GAIN * self.table(rows).sum(dim=1) / (rows > 0).sum(dim=1, keepdim=True).sqrt()
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def find(self, codes: Tensor) -> Tensor:
        """The rows of the table [B, ngrams * L] for all n-grams that begin at a byte of the texts [B, L]."""
        size, padded, hashes, found = codes.shape[1], pad(codes, (0, self.ngrams - 1)), torch.zeros_like(codes), []
        for place in range(self.ngrams):
            last = padded[:, place : place + size]
            hashes = (hashes * FACTOR + last) % PRIME
            found.append(torch.where(last > 0, hashes % (self.buckets - 1) + 1, 0))
        return torch.cat(found, dim=1)


def enclose(codes: Tensor) -> Tensor:
    """Texts [B, L] with a blank before and after each, so that n-grams know where words begin and end [B, L + 2]."""
    beside = (pad(codes, (2, 0)) > 0) | (pad(codes, (0, 2)) > 0)
    inner = pad(codes, (1, 1))
    return torch.where((inner == 0) & beside, BLANK, inner)


def build(cfg: ModelConfig, about: dict[str, Any], assets: dict[str, bytes], init: bool) -> Net:
    """The network for this data. With `init` its first weights are set; without, they are about to be loaded."""
    return Net(cfg, len(about["classes"]))


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that are compiled, recomputed and sharded one by one: there are none."""
    return []
