"""Toy texts of very uneven length: each token depends on the one before it."""

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..interface import Batch, Data
from .settings import DataConfig

NUM_TOKENS, PADDING = 24, 0  # token 0 is never part of a text


class Texts:
    """All texts in one array of tokens; text i is `tokens[starts[i] : starts[i + 1]]`."""

    def __init__(self, texts: list[np.ndarray]) -> None:
        self.tokens = torch.from_numpy(np.concatenate(texts))
        self.starts = np.cumsum([0, *(len(text) for text in texts)])
        self.fingerprint = hashlib.sha256(self.tokens.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.starts) - 1

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """`tokens` [B, T], as long as the longest of these texts; shorter ones end in padding."""
        texts = [self.tokens[self.starts[i] : self.starts[i + 1]] for i in indices]
        return {"tokens": pad_sequence(texts, batch_first=True, padding_value=PADDING)}


def open_data(cfg: DataConfig) -> Data:
    random = np.random.default_rng(0)
    follows = random.dirichlet(np.full(NUM_TOKENS - 1, 0.1), size=NUM_TOKENS)  # row: token, column: next one

    def text() -> np.ndarray:
        tokens = [int(random.integers(1, NUM_TOKENS))]
        for _ in range(1 + int((cfg.longest - 1) * random.random() ** 4)):
            tokens.append(1 + int(random.choice(NUM_TOKENS - 1, p=follows[tokens[-1]])))
        return np.array(tokens, dtype=np.int64)

    train, val, test = (Texts([text() for _ in range(n)]) for n in (cfg.num_texts, 60, 60))
    return Data(train, val, test, {"num_tokens": NUM_TOKENS, "padding": PADDING}, {})
