"""Which samples a step trains on, and the loaders that read them."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .. import seeding
from ..config import Config
#: if strategy != "single"
from ..distributed.processes import rank, world_size
from ..errors import UserError
#: endif
from ..interface import Batch, Data, Source
from ..runs.progress import Progress
from . import signals

Share = tuple[list[int], Tensor | None]  # the arguments of `Source.batch`
Loader = DataLoader[Any]


class TrainOrder(Sampler[Any]):
    """Yields batches, as arguments of `Source.batch`, from where the run is to the end of the epoch.

    #: if optimizers == "several"
    An item is the list of all batches of an optimizer step, as each of its phases goes over all of them.

    #: endif
    The order of samples is f(seed, epoch). The few that are left at the end of an epoch are skipped.
    #: if strategy != "single"
    The number of processes does not change it: batch after batch they share out the next `batch_size * world_size`.
    #: endif
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    #: if optimizers == "one"
    def __len__(self) -> int:
        return self.progress.batches_left

    #: endif
    #: if optimizers == "several"
    def __len__(self) -> int:
        return math.ceil(self.progress.batches_left / self.progress.cfg.optim.accumulate)

    #: endif
    def __iter__(self) -> Iterator[Any]:
        at, epoch, left = self.progress, self.progress.epoch, self.progress.batches_left
        order = torch.randperm(at.num_samples, generator=seeding.generator(at.cfg.seed, epoch))
        batches = order[at.samples :][: left * at.taken].view(left, -1)
        #: if strategy != "single"
        batches = batches.view(left, world_size(), -1)[:, rank()]
        #: endif
        #: if optimizers == "one"
        return ((own, seeding.sample_seeds(at.cfg.seed, epoch, own)) for own in batches.tolist())


        #: endif
        #: if optimizers == "several"
        steps = torch.split(batches, at.cfg.optim.accumulate)
        return ([(own, seeding.sample_seeds(at.cfg.seed, epoch, own)) for own in step.tolist()] for step in steps)


#: endif
def to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


class Reader(Dataset[Any]):
    """A source as torch's loaders take it: an item is a batch."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, share: Any) -> Any:
        #: if optimizers == "several"
        if isinstance(share, list):
            return [self.source.batch(*part) for part in share]
        #: endif
        return self.source.batch(*share)


def build_loaders(data: Data, cfg: Config, progress: Progress) -> tuple[Loader, Loader]:
    """The loaders to train on, from where the run is, and to validate with."""
    train, val = keep_on_gpu([data.train, data.val], cfg)
    return build_loader(train, TrainOrder(progress), cfg), build_eval_loader(val, cfg)


#: if strategy == "single"
def build_eval_loader(source: Source, cfg: Config) -> Loader:
    """Batches of all samples, as they are."""
    batches = np.array_split(np.arange(len(source)), math.ceil(len(source) / cfg.data.batch_size))
    return build_loader(source, [(own.tolist(), None) for own in batches], cfg)


#: endif
#: if strategy != "single"
def build_eval_loader(source: Source, cfg: Config) -> Loader:
    """Batches of this process's share; all processes together see each sample exactly once.

    Every process has as many batches, of sizes that differ by one at most, so that none waits for another.
    (`DistributedSampler` would even out the shares by counting some samples twice.)
    """
    num_batches = math.ceil(len(source) / world_size() / cfg.data.batch_size)
    if len(source) < num_batches * world_size():
        raise UserError(f"{len(source)} held-out samples are too few for {world_size()} processes.")
    batches = np.array_split(np.arange(rank(), len(source), world_size()), num_batches)
    return build_loader(source, [(own.tolist(), None) for own in batches], cfg)


#: endif
def build_loader(source: Source, shares: Iterable[Share], cfg: Config) -> Loader:
    options: Any = {"persistent_workers": True, "pin_memory": torch.cuda.is_available()} if cfg.data.num_workers else {}
    options |= {"num_workers": cfg.data.num_workers, "worker_init_fn": signals.begin_loader}
    return DataLoader(Reader(source), batch_size=None, sampler=shares, **options)  # an item is a batch already


def keep_on_gpu(sources: list[Source], cfg: Config) -> list[Source]:
    """The sources on the GPU, if they can be there, need less than a quarter of its free memory, and no workers."""
    if not torch.cuda.is_available() or cfg.data.num_workers or not all(hasattr(s, "to") for s in sources):
        return sources
    movable: list[Any] = [*sources]
    fit = 4 * sum(source.nbytes for source in movable) < torch.cuda.mem_get_info()[0]
    return [source.to(torch.device("cuda")) for source in movable] if fit else sources
