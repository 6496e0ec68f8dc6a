"""What a task and the training core agree on. `INTERFACE` changes with a major release of the template only."""

from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

INTERFACE = 1

Batch = dict[str, Tensor]  # tensors whose first axis is the sample
Directions = dict[str, Literal["min", "max"]]  # of each score: which way is better


class Source(Protocol):
    """Samples by index; nothing is decoded before it is asked for.

    Loader processes get a copy by pickle, so a source opens files in the process that reads them. One that can keep
    its samples on a GPU may also have `nbytes` and `to(device)`, which returns a source that does.
    """

    fingerprint: str  # of names and sizes; a run resumes on the same data only

    def __len__(self) -> int: ...

    def batch(self, indices: list[int], seeds: Tensor | None) -> Batch:
        """These samples, augmented from `seeds` [B] int64, which are f(seed, epoch, index); as they are without."""


class Data(NamedTuple):
    """What `task.data.open_data` returns."""

    train: Source
    val: Source
    test: Source
    about: dict[str, Any]  # what the model has to know, such as shapes or columns: plain JSON, at most 64 KiB
    assets: dict[str, bytes]  # files that a model needs besides its weights, such as a tokenizer
