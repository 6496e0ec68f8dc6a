#: if strategy != "single"
from contextlib import contextmanager
#: endif
from dataclasses import replace
from itertools import chain, islice

import pytest
import torch

from my_project.config import Config, DataConfig
from my_project.errors import UserError
from my_project.runs.progress import START, Progress
from my_project.training.loading import (
    TrainOrder,
    build_eval_loader,
    build_loaders,
)

CFG = Config(data=DataConfig(batch_size=64))


def order(cfg, **position):
    """The batches of a run of 500 samples, from a position on to the end of the epoch."""
    return [indices for indices, _ in TrainOrder(Progress(500, cfg, START | position))]


def test_the_order_depends_on_seed_and_epoch_alone():
    other = replace(CFG, seed=1)
    assert order(CFG, epoch=1) == order(CFG, epoch=1)
    assert order(CFG, epoch=1) != order(CFG, epoch=2)
    assert order(CFG, epoch=1) != order(other, epoch=1)


def test_a_resumed_epoch_continues_where_it_stopped():
    assert order(CFG, epoch=1, samples=3 * 64) == order(CFG, epoch=1)[3:]


def test_an_epoch_that_continues_with_other_batches_takes_the_samples_that_are_left():
    smaller = replace(CFG, data=replace(CFG.data, batch_size=16))
    whole, rest = [*chain(*order(CFG))], [*chain(*order(smaller, samples=64))]
    assert rest[: len(whole) - 64] == whole[64:]
    assert len(rest) == (500 - 64) // 16 * 16


@pytest.fixture(autouse=True)
def pod(monkeypatch):
    """A machine whose environment speaks of processes that this one has not joined."""
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)


def test_a_process_that_is_alone_measures_each_sample_once(data):
    loader = build_eval_loader(data.val, CFG)
    assert [index for indices, _ in loader.sampler for index in indices] == list(range(len(data.val)))


#: if strategy != "single"
@contextmanager
def joined(rank, size):
    """Be one of so many processes, of which there are no others."""
    torch.distributed.init_process_group("fake", rank=rank, world_size=size)
    yield
    torch.distributed.destroy_process_group()


def test_all_processes_together_train_on_what_one_with_their_batches_would():
    one = order(replace(CFG, data=replace(CFG.data, batch_size=2 * 64)))
    shares = []
    for rank in range(2):
        with joined(rank, 2):
            shares.append(order(CFG))
    assert [sorted(first + second) for first, second in zip(*shares, strict=True)] == [sorted(own) for own in one]


def test_all_processes_together_measure_each_sample_once(data):
    seen, num_batches = [], set()
    for rank in range(3):
        with joined(rank, 3):
            loader = build_eval_loader(data.val, CFG)
        seen += [index for indices, _ in loader.sampler for index in indices]
        num_batches.add(len(loader))
    assert sorted(seen) == list(range(len(data.val)))
    assert len(num_batches) == 1


#: endif
def test_loader_processes_read_the_same_batches(data, smoke):
    with_workers = replace(smoke, data=replace(smoke.data, num_workers=2))
    at = Progress(len(data.train), smoke)
    loaders = [build_loaders(data, cfg, at)[0] for cfg in (smoke, with_workers)]
    for ours, theirs in islice(zip(*loaders, strict=True), 3):
        ours = {name: value.cpu() for name, value in ours.items()}  # without workers they may be kept on a GPU
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 if torch.cuda.is_available() else 0)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match=r"Lower data\.batch_size"):
        Progress(10, CFG)
