"""Texts as tokens: how files are read, and byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909)."""

#: if pretrained == "none"
import pydoc_data.topics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

#: endif
#: if pretrained == "transformers"
import json
import pydoc_data.topics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from . import pretrained
#: endif
from .errors import UserError, checked

END = "<|endoftext|>"  # stands before each text, and after it
FILE = "tokenizer.json"  # its name among the assets of a run
#: if pretrained == "none"
HINT = "Give the tokenizer.json of a byte-level BPE."
#: endif
#: if pretrained == "transformers"
HINT = "Give a model whose tokenizer is a byte-level BPE, such as those of GPT-2, Llama 3 and Qwen."
#: endif
# Byte-level BPE writes each byte as a printable character: itself if it is one, else the next one from 256 on.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
BYTES = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(OTHERS)}


def read_texts(path: Path | None) -> dict[str, str]:
    """Texts by name, of a file or of all .txt files in a folder; raises `UserError` for what is no text."""
    if path is None:
        return dict(sorted(pydoc_data.topics.topics.items()))
    if not path.is_dir():
        return {path.name: read_text(path)}
    files = sorted(file for file in path.rglob("*.txt") if not file.name.startswith("."))
    if not files:
        raise UserError(f"data.path={path}: there is no .txt file in this folder. Give one that has some, or a file.")
    return {file.relative_to(path).as_posix(): read_text(file) for file in files}


def read(file: Path, hint: str) -> bytes:
    with checked(file, hint):
        return file.read_bytes()


def read_text(file: Path) -> str:
    content = read(file, "Give a text file, or a folder of .txt files.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: byte {error.start} is no UTF-8. Convert the file, such as with iconv.") from None


def train(texts: Iterable[str], size: int) -> bytes:
    """Learn a tokenizer of at most so many tokens; return its tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str().encode()


#: if pretrained == "transformers"
def read_model(name: str | None, small: dict[str, Any], texts: Iterable[str], size: int) -> dict[str, bytes]:
    """The configuration of a model and the files of its tokenizer; raises `UserError` for one that cannot be used.

    The tokenizer of a small model, which has no name, is learned: at most so many tokens.
    """
    config = pretrained.read_config(name, small)
    if name:
        files = pretrained.read_tokenizer(name, config)
    else:
        learned = Tokenizer.from_str(train(texts, size).decode())
        config["vocab_size"] = learned.get_vocab_size()
        files = pretrained.tokenizer_files(PreTrainedTokenizerFast(tokenizer_object=learned, eos_token=END))
    return {pretrained.CONFIG: json.dumps(config).encode(), **files}


def end_of(assets: dict[str, bytes]) -> str:
    """The token for the end of a text."""
    said = json.loads(assets["tokenizer_config.json"]).get("eos_token")
    return str(said["content"] if isinstance(said, dict) else said)


#: endif
class Vocabulary:
    """What a tokenizer.json says: the bytes that each token stands for, and how a text becomes tokens."""

    def __init__(self, content: bytes, name: object = FILE, end: str = END) -> None:
        """Raises `UserError` if it is no byte-level BPE with a token for the end of a text."""
        with checked(name, HINT):
            self.tokenizer = Tokenizer.from_str(content.decode())
            self.tokenizer.encode_special_tokens = True  # END in a text is text
            number: int | None = self.tokenizer.token_to_id(end)
            size = 1 + max(self.tokenizer.get_vocab().values())  # numbers may have gaps
            texts = [self.tokenizer.id_to_token(i) or "" for i in range(size)]
        #: if pretrained == "none"
        if number is None:
            raise UserError(f"{name}: this tokenizer has no token {end}. Add it, or leave out --data.tokenizer.")
        known = {number: b""}
        #: endif
        #: if pretrained == "transformers"
        if number is None:
            raise UserError(f"{name}: its tokenizer has no token for the end of a text. Give a model that has one.")
        added = self.tokenizer.get_added_tokens_decoder()
        known = {i: b"" if one.special else one.content.encode() for i, one in added.items()}
        #: endif
        self.end = number
        if strange := [text for i, text in enumerate(texts) if i not in known and not BYTES.keys() >= {*text}]:
            raise UserError(f"{name}: its token {strange[0]!r} is not of a byte-level BPE. {HINT}")
        self.pieces = [known[i] if i in known else bytes(map(BYTES.__getitem__, text)) for i, text in enumerate(texts)]

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def pack(self, texts: list[str]) -> NDArray[np.int32]:
        """All texts in one row of tokens, with END before each and after the last."""
        parts = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        rows = [np.array([self.end, *part.ids], np.int32) for part in parts]
        return np.concatenate([*rows, np.array([self.end], np.int32)])

    def sizes(self) -> NDArray[np.int64]:
        """How many bytes each token stands for; END for none."""
        return np.array([len(piece) for piece in self.pieces], np.int64)
