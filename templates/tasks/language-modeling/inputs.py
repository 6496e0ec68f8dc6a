"""What the trained model is asked and what it answers: shared by `predict`, `export` and the service."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from ..errors import LOG, UserError
from ..generation import Continuation, Prompt, rank
from ..interface import Batch
from ..tokens import FILE, Vocabulary
from .data import PADDING
from .model import Cache
from .settings import DataConfig

Arrays = dict[str, NDArray[Any]]  # by name; of a batch, samples come first

INPUTS, OUTPUTS = ("tokens",), ("logits", "length")  # of `Exported`, in order
DYNAMIC = {  # axes whose length varies, and a word for each
    "tokens": {0: "batch", 1: "length"},
    "logits": {0: "batch", 1: "length"},
    "length": {0: "batch"},
}
TOLERANCE = 1e-3  # how far an exported model's logits may differ from the plain model's


class Exported(nn.Module):
    """What is exported: from tokens [B, T], which end in -1 where others are longer, to logits and lengths.

    The logits [B, T, num_tokens] at a place are of the token after it; the lengths [B] are without padding.
    """

    #: if pretrained == "none"
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    #: endif
    #: if pretrained == "transformers"
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.most = net.merged(), {"length": net.most}  # of axes that the network bounds

    #: endif
    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(tokens.clamp(min=0)).float(), (tokens != PADDING).sum(dim=1)


def example(about: dict[str, Any], size: int = 2) -> Arrays:
    """A few tokens that are the same everywhere, to trace a model with and to check it."""
    places = np.arange(size)[:, None] * 7 + np.arange(min(3, about["window"])) * 31
    return {"tokens": places % about["num_tokens"]}


def differ(expected: Arrays, answers: Arrays) -> NDArray[Any]:
    """By how much each of the answers differs from what is expected: in a logit, or infinitely in its length."""
    same = expected["length"] == answers["length"]
    return np.where(same, np.abs(answers["logits"] - expected["logits"]).max(axis=(1, 2)), np.inf)


def from_batch(batch: Batch) -> Arrays:
    """What the model would be asked for the samples of a source."""
    return {"tokens": torch.where(batch["targets"] == PADDING, PADDING, batch["tokens"]).numpy()}


def read(argument: str, about: dict[str, Any], cfg: DataConfig) -> Iterator[tuple[str, Any]]:
    """Name and content of the prompt that an argument of `predict` is: a text, or a record as the service takes it."""
    if not argument.lstrip().startswith('{"'):
        yield argument, Prompt(prompt=argument)
        return
    try:
        prompt = Prompt.model_validate_json(argument)
    except ValidationError as error:
        one = error.errors(include_url=False, include_input=False)[0]
        raise UserError(f"{argument}: {'.'.join(map(str, one['loc']))}: {one['msg']}. See README.md.") from None
    yield prompt.prompt, prompt


def collate(samples: list[Arrays]) -> Arrays:
    """One batch of several inputs, which are filled up to the longest."""
    longest = max(len(sample["tokens"]) for sample in samples)
    rows = [np.pad(row := sample["tokens"], (0, longest - len(row)), constant_values=PADDING) for sample in samples]
    return {"tokens": np.stack(rows)}


def predictions(answers: Arrays, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The likeliest next tokens after each input, with their logits."""
    pairs = zip(answers["logits"], answers["length"].tolist(), strict=True)
    return [{"next": rank(logits[length - 1])} for logits, length in pairs]


@torch.inference_mode()
def predict(net: nn.Module, prompt: Prompt, about: dict[str, Any], assets: dict[str, bytes]) -> dict[str, Any]:
    """Continue a prompt; each step computes the newest token alone, with the keys and values of those before it."""
    #: if pretrained == "none"
    vocabulary = Vocabulary(assets[FILE])
    #: endif
    #: if pretrained == "transformers"
    vocabulary = Vocabulary(assets[FILE], end=about["end"])
    #: endif
    continuation = Continuation(vocabulary, prompt, about["window"])
    if continuation.cut:
        LOG.warning("The prompt is longer than the model: its first %d tokens are left out.", continuation.cut)
    cache: Cache = []
    first = known = -1
    while not continuation.done:
        if continuation.first != first:
            cache, first, known = [], continuation.first, continuation.first
        tokens = torch.tensor([continuation.ids[known:]])
        known = len(continuation.ids)
        continuation.take(rank(net(tokens, cache)[0, -1].float().numpy()))
    return continuation.result()
