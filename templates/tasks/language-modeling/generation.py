"""How a text is continued, token after token, whatever computes the logits."""

import codecs
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .tokens import Vocabulary

MOST_TOKENS = 512  # that a prompt may ask for
MOST_RANKED = 100  # of the likeliest tokens, from which the next one is drawn

Ranked = list[list[float]]  # tokens, each with its logit, the likeliest first


class Prompt(BaseModel):
    """The beginning of a text, and how it is continued; the same prompt has the same continuation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    max_tokens: int = Field(default=64, ge=1, le=MOST_TOKENS, description="tokens that are added at most")
    temperature: float = Field(default=0.8, ge=0, le=100, description="0 takes the likeliest token, higher varies more")
    top_k: int = Field(default=40, ge=1, le=MOST_RANKED, description="tokens to draw from, the likeliest ones")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of what is drawn")


def rank(logits: NDArray[Any]) -> Ranked:
    """The likeliest tokens by their logits [num_tokens]."""
    best = np.argsort(-logits, kind="stable")[:MOST_RANKED]
    return [[int(token), float(logits[token])] for token in best]


class Continuation:
    """A text that is being continued. Ask a model for `seen`, give what follows to `take`, until it is `done`.

    A text that is longer than the model's window is seen from a later token on. That token moves by half a window at a
    time, so that a cache serves for as long.
    """

    def __init__(self, vocabulary: Vocabulary, prompt: Prompt, window: int) -> None:
        self.vocabulary, self.prompt, self.window = vocabulary, prompt, window
        given = vocabulary.encode(prompt.prompt)
        self.cut = max(0, len(given) + 1 - window)  # tokens of the prompt that do not fit
        self.ids = [vocabulary.end, *given][self.cut :]
        self.num_tokens, self.text, self.done = 0, "", False
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a token may end within a character

    @property
    def first(self) -> int:
        """The first token that the model sees."""
        half = self.window // 2
        return -(-max(0, len(self.ids) - self.window) // half) * half

    @property
    def seen(self) -> NDArray[np.int64]:
        return np.array(self.ids[self.first :], np.int64)

    def take(self, ranked: Ranked) -> str:
        """Add the next token; return what text it completes."""
        token = self.choose(ranked[: self.prompt.top_k])
        self.num_tokens += 1
        self.done = token == self.vocabulary.end or self.num_tokens == self.prompt.max_tokens
        self.ids.append(token)
        text: str = self.decoder.decode(self.vocabulary.pieces[token], final=self.done)
        self.text += text
        return text

    def choose(self, ranked: Ranked) -> int:
        """Draw a token by the softmax of its logit, from the seed and the number of the token alone."""
        if not self.prompt.temperature:
            return int(ranked[0][0])
        logits = np.array([logit for _, logit in ranked])
        with np.errstate(over="ignore"):  # a temperature near 0
            bounds = np.exp((logits - logits[0]) / self.prompt.temperature).cumsum()
        drawn = np.random.default_rng((self.prompt.seed, self.num_tokens)).random() * bounds[-1]
        return int(ranked[int(np.searchsorted(bounds, drawn, side="right"))][0])

    def result(self) -> dict[str, Any]:
        return {"text": self.text, "tokens": self.num_tokens, "cut": self.cut}
