"""Texts as tokens, by the tokenizer that belongs to a model."""

import json
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from . import pretrained, texts
from .errors import LOG, UserError

PADDING = -1  # fills rows up; no token has this number
PAD = "<pad>"

Tokens = NDArray[np.int64]


@lru_cache(4)  # of the model that answers, and of the one before
def load(content: bytes, most: int) -> Tokenizer:
    """A tokenizer that cuts texts; nothing may change it later, as threads share it."""
    tokenizer = Tokenizer.from_str(content.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    return tokenizer


def read(name: str | None, small: dict[str, Any]) -> dict[str, bytes]:
    """The configuration of a model and the files of its tokenizer; raises `UserError` for one that cannot be used.

    The tokens of a small model, which has no name, are bytes.
    """
    config = pretrained.read_config(name, small)
    files = pretrained.read_tokenizer(name, config) if name else pretrained.tokenizer_files(build_bytes())
    return {pretrained.CONFIG: json.dumps(config).encode(), **files}


def build_bytes() -> PreTrainedTokenizerFast:
    tokenizer, alphabet = Tokenizer(models.BPE()), pre_tokenizers.ByteLevel.alphabet()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=257, special_tokens=[PAD], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD)


def describe(assets: dict[str, bytes], most: int) -> dict[str, int]:
    """What `about` says of tokens; raises `UserError` if the model cannot read as many."""
    config = json.loads(assets[pretrained.CONFIG])
    if most > (longest := pretrained.longest(config, assets)):
        raise UserError(f"data.max_tokens={most}: this model reads {longest} tokens at most. Give as many, or fewer.")
    ends = config.get("eos_token_id")  # stands for padding where a model has none
    known = (config.get("pad_token_id"), ends[0] if isinstance(ends, list) else ends, 0)
    padding = next(number for number in known if number is not None)
    return {"max_tokens": most, "num_tokens": config["vocab_size"], "padding": padding}


def encode(given: Sequence[str], assets: dict[str, bytes], most: int, source: object = "") -> list[Tokens]:
    """Texts as tokens, those that the model expects at both ends included; of a source, it is said how many are cut.

    Raises `UserError` for an empty text.
    """
    tokenizer = load(assets["tokenizer.json"], most)
    found = tokenizer.encode_batch([text.decode() for text in texts.encode(given, sys.maxsize, source)])
    if (long := sum(bool(one.overflowing) for one in found)) and source:
        LOG.warning("%s: %d of %d texts are longer than %d tokens and are cut.", source, long, len(given), most)
    return [np.array(one.ids, np.int64) for one in found]


def fill(rows: Sequence[NDArray[Any]]) -> Tokens:
    """One row for each text, filled up to the longest [N, L]."""
    filled = np.full((len(rows), max(map(len, rows))), PADDING, np.int64)
    for row, tokens in zip(filled, rows, strict=True):
        row[: len(tokens)] = tokens
    return filled
