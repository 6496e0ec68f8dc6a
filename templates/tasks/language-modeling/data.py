"""The data: texts as one row of tokens, of which a sample is a window."""

import hashlib
#: if pretrained == "transformers"
import json
#: endif
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: if pretrained == "none"
from .. import tokens
#: endif
#: if pretrained == "transformers"
from .. import pretrained, tokens
#: endif
from ..errors import UserError
from ..interface import Batch, Data
from ..seeding import uniform
#: if pretrained == "transformers"
from .model import SMALL
#: endif
from .settings import DataConfig

BLOCK = 4096  # characters that are in one split together
HELD_OUT = 0.1  # share of the blocks in the test split, and as many in the validation split
PADDING = -1  # in place of what follows the last token; costs nothing and is not counted


class Windows:
    """A source of windows over a row of tokens, a window in each stride.

    As they are, with the stride of a window, all together predict each token but the first once. In training a window
    begins at any token of its stride, so no two epochs see the same.
    """

    def __init__(self, row: NDArray[np.int32], sizes: NDArray[np.int64], window: int, stride: int) -> None:
        self.row, self.sizes, self.window, self.stride = torch.from_numpy(row), torch.from_numpy(sizes), window, stride
        self.fingerprint = hashlib.sha256(row.tobytes() + f"{window} {stride}".encode()).hexdigest()

    def __len__(self) -> int:
        return -(-(len(self.row) - 1) // self.stride)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """`tokens`, their `targets` (the next tokens) and the `bytes` of these: each [B, window] int64."""
        starts = torch.tensor(indices) * self.stride
        if seeds is not None:
            starts += (uniform(seeds, 1)[:, 0] * self.stride).long()
            starts = starts.clamp(max=max(0, len(self.row) - 1 - self.window))
        places = starts[:, None] + torch.arange(self.window + 1)
        ids = self.row[places.clamp(max=len(self.row) - 1)].long()
        inside, following = places[:, 1:] < len(self.row), ids[:, 1:]
        targets = torch.where(inside, following, PADDING)
        return {"tokens": ids[:, :-1], "targets": targets, "bytes": self.sizes[following] * inside}


def open_data(cfg: DataConfig) -> Data:
    """The three splits. Raises `UserError` for texts that cannot be used, or are too short."""
    parts = split(tokens.read_texts(cfg.path))
    #: if pretrained == "none"
    given = cfg.tokenizer
    learned = tokens.read(given, tokens.HINT) if given else tokens.train(parts["train"], cfg.vocabulary)
    vocabulary, assets = tokens.Vocabulary(learned, given or tokens.FILE), {tokens.FILE: learned}
    #: endif
    #: if pretrained == "transformers"
    assets = tokens.read_model(cfg.pretrained, SMALL, parts["train"], cfg.vocabulary)
    if cfg.window > (longest := pretrained.longest(json.loads(assets[pretrained.CONFIG]), assets)):
        raise UserError(f"data.window={cfg.window}: this model reads {longest} tokens at most. Give as many, or fewer.")
    end = tokens.end_of(assets)
    vocabulary = tokens.Vocabulary(assets[tokens.FILE], f"model.pretrained={cfg.pretrained}", end)
    #: endif
    rows = {name: vocabulary.pack(texts) for name, texts in parts.items()}
    if len(rows["train"]) <= cfg.window or not all(parts.values()):
        found = ", ".join(f"{len(row):,} tokens to {name}" for name, row in rows.items())
        raise UserError(f"data: these texts are too short ({found}; a window has {cfg.window}). Give longer ones.")
    strides = {"train": round(cfg.window / cfg.epoch), "val": cfg.window, "test": cfg.window}
    train, val, test = (Windows(rows[name], vocabulary.sizes(), cfg.window, stride) for name, stride in strides.items())
    about: dict[str, Any] = {"window": cfg.window, "num_tokens": len(vocabulary)}
    about["tokenizer"] = hashlib.sha256(assets[tokens.FILE]).hexdigest()  # so that another one is noticed
    #: if pretrained == "transformers"
    about["end"] = end
    #: endif
    return Data(train, val, test, about, assets)


def split(texts: dict[str, str]) -> dict[str, list[str]]:
    """The texts of train, val and test, which are cut into blocks.

    The split of a block follows from the name of its text and its number there, so that it stays when texts are added,
    or something is added to the end of one. Neighbours in one split stay together.
    """
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name, text in texts.items():
        for part, blocks in groupby(cut(name, text), key=lambda block: block[0]):
            parts[part].append("".join(content for _, content in blocks))
    return parts


def cut(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The split and the content of each block of a text."""
    for first in range(0, len(text), BLOCK):
        key = f"{name}\n{first // BLOCK}".encode(errors="surrogateescape")
        share = int.from_bytes(hashlib.sha256(key).digest()[:4], "big") / 2**32
        part = "test" if share < HELD_OUT else "val" if share < 2 * HELD_OUT else "train"
        yield part, text[first : first + BLOCK]
