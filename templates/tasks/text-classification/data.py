"""The data: phrases in 15 languages, or a file of texts with their classes."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: if pretrained == "none"
from .. import splits, texts
#: endif
#: if pretrained == "transformers"
from .. import splits, texts, tokens
#: endif
from ..errors import LOG, UserError
from ..interface import Batch, Data
#: if pretrained == "transformers"
from .model import SMALL
#: endif
from .settings import DataConfig

PHRASES = Path(__file__).with_name("phrases.csv")  # from Django's translations, whose licence lies beside it

Labels = NDArray[np.int64]


#: if pretrained == "none"
class Texts:
    """A source of texts in memory: their bytes one after another, with labels [N]."""

    def __init__(self, contents: list[bytes], labels: Labels) -> None:
        self.content, self.labels = b"".join(contents), torch.from_numpy(labels)
        self.ends = np.cumsum([0, *map(len, contents)])
        self.fingerprint = hashlib.sha256(self.content + self.ends.tobytes() + labels.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """`text` [B, L] uint8, filled up with 0 to the longest, and `label` [B]."""
        rows = texts.fill([self.content[self.ends[i] : self.ends[i + 1]] for i in indices])
        return {"text": torch.from_numpy(rows), "label": self.labels[indices]}


#: endif
#: if pretrained == "transformers"
class Texts:
    """A source of texts in memory: their tokens one after another, with labels [N]."""

    def __init__(self, rows: list[tokens.Tokens], labels: Labels) -> None:
        self.content = np.concatenate([np.empty(0, np.int32), *rows]).astype(np.int32)
        self.labels = torch.from_numpy(labels)
        self.ends = np.cumsum([0, *map(len, rows)])
        self.fingerprint = hashlib.sha256(self.content.tobytes() + self.ends.tobytes() + labels.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """`text` [B, L] int64, filled up with -1 to the longest, and `label` [B]."""
        rows = tokens.fill([self.content[self.ends[i] : self.ends[i + 1]] for i in indices])
        return {"text": torch.from_numpy(rows), "label": self.labels[indices]}


#: endif
def open_data(cfg: DataConfig) -> Data:
    """The three splits. Raises `UserError` for a file or a column that cannot be used."""
    path, columns = cfg.path or PHRASES, (cfg.text, cfg.label, cfg.group or cfg.text)
    if cfg.path is None:
        columns = ("text", "label", "message")  # translations of a message stay together
    rows = [*zip(*texts.read(path, columns), strict=True)]
    found = [row for row in rows if row[1]]
    if len(found) < len(rows):
        LOG.warning("%d of %d rows are left out, as they have no %s.", len(rows) - len(found), len(rows), columns[1])
    names = [name for _, name, _ in found]
    classes = sorted({*names})
    if len(classes) < 2:
        raise UserError(f"data.label={columns[1]}: {path} has texts of classes {classes}, and needs those of two.")
    #: if pretrained == "none"
    contents = texts.encode([text for text, _, _ in found], cfg.max_bytes, path)
    #: endif
    #: if pretrained == "transformers"
    assets = tokens.read(cfg.pretrained, SMALL)
    about = {"classes": classes, **tokens.describe(assets, cfg.max_tokens)}
    contents = tokens.encode([text for text, _, _ in found], assets, cfg.max_tokens, path)
    #: endif
    index = {name: number for number, name in enumerate(classes)}
    labels = np.array([index[name] for name in names], np.int64)
    parts = splits.split([group for _, _, group in found], cfg.fold, cfg.folds)
    splits.check_classes(parts, labels, classes)
    train, val, test = (Texts([contents[i] for i in part], labels[part]) for part in parts)
    #: if pretrained == "none"
    return Data(train, val, test, {"classes": classes, "max_bytes": cfg.max_bytes}, {})
    #: endif
    #: if pretrained == "transformers"
    return Data(train, val, test, about, assets)
    #: endif
