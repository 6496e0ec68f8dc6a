import asyncio
import threading

import numpy as np
import pytest

from my_project.serving import batching
from my_project.serving.batching import Batcher
from my_project.serving.exported import Model


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """A sample is one number, or several, whatever the task of this project is."""
    monkeypatch.setattr(batching.inputs, "INPUTS", ("x",))
    monkeypatch.setattr(batching.inputs, "DYNAMIC", {"x": {0: "batch"}})
    monkeypatch.setattr(batching.inputs, "collate", fill)


def fill(samples):
    """One batch, filled up to the longest sample."""
    rows = [np.atleast_1d(one["x"]) for one in samples]
    filled = np.stack([np.pad(row, (0, max(map(len, rows)) - len(row))) for row in rows])
    return {"x": filled if np.ndim(samples[0]["x"]) else filled[:, 0]}


class Slow:
    """A model that waits until it may go on, and notes what it was called with."""

    def __init__(self, version="first"):
        self.sizes, self.threads, self.go_on = [], set(), threading.Event()
        self.go_on.set()
        self.model = Model(self.run, {}, version)
        self.version = version

    def run(self, arrays):
        self.sizes.append(len(arrays["x"]))
        self.threads.add(threading.current_thread())
        assert self.go_on.wait(30)
        return {"y": 2 * arrays["x"], "version": np.array([self.version] * len(arrays["x"]))}


def fail(arrays):
    raise RuntimeError("broken")


def submit(batcher, model, *values):
    return asyncio.ensure_future(batcher.answer(model, [{"x": value} for value in values]))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_an_idle_model_is_called_at_once_and_a_busy_one_with_all_that_wait():
    async def scenario():
        slow, batcher = Slow(), Batcher(8, 30)
        slow.go_on.clear()
        jobs = [submit(batcher, slow.model, 0)]
        await until(lambda: slow.sizes)
        jobs += [submit(batcher, slow.model, value) for value in range(1, 10)]
        slow.go_on.set()
        answers = await asyncio.gather(*jobs)
        assert slow.sizes == [1, 8, 1]
        assert [answer["y"].tolist() for answer in answers] == [[2 * value] for value in range(10)]

    asyncio.run(scenario())


def test_requests_of_several_inputs_get_their_own_answers():
    async def scenario():
        slow, batcher = Slow(), Batcher(8, 30)
        slow.go_on.clear()
        jobs = [submit(batcher, slow.model, *values) for values in ((1,), (2, 3), (4, 5, 6), (7, 8, 9, 10))]
        await until(lambda: slow.sizes)
        slow.go_on.set()
        answers = await asyncio.gather(*jobs)
        assert slow.sizes == [6, 4]
        assert [answer["y"].tolist() for answer in answers] == [[2], [4, 6], [8, 10, 12], [14, 16, 18, 20]]

    asyncio.run(scenario())


def test_a_fast_model_stays_in_the_loop_and_a_slow_one_leaves_it():
    async def scenario():
        slow, batcher = Slow(), Batcher(8, 30)
        await submit(batcher, slow.model, 1)  # it is not known yet how long it takes
        assert threading.current_thread() not in slow.threads
        slow.threads.clear()
        batcher.rates[1, 1] = 0.001
        await submit(batcher, slow.model, 1)
        assert slow.threads == {threading.current_thread()}

    asyncio.run(scenario())


def test_a_call_that_takes_no_time_waits_for_nothing():
    async def scenario():
        slow, batcher = Slow(), Batcher(8, 30)
        batcher.rates[1, 1] = 0.00001
        with pytest.raises(StopIteration) as end:
            batcher.answer(slow.model, [{"x": 1}]).send(None)  # the loop gets no turn before the answer is there
        assert end.value.value["y"].tolist() == [2]

    asyncio.run(scenario())


def test_a_batch_has_one_model_whatever_takes_over_meanwhile():
    async def scenario():
        old, new, batcher = Slow("old"), Slow("new"), Batcher(8, 30)
        old.go_on.clear()
        jobs = [submit(batcher, old.model, 1)]
        await until(lambda: old.sizes)
        jobs += [submit(batcher, model, 1) for model in (old.model, new.model, new.model)]
        old.go_on.set()
        answers = await asyncio.gather(*jobs)
        assert [answer["version"][0] for answer in answers] == ["old", "old", "new", "new"]
        assert (old.sizes, new.sizes) == ([1, 1], [2])

    asyncio.run(scenario())


def test_a_wait_ends_at_the_deadline_and_spares_the_model():
    async def scenario():
        slow, batcher = Slow(), Batcher(8, 0.01)
        slow.go_on.clear()
        for value in range(2):
            with pytest.raises(TimeoutError):
                await submit(batcher, slow.model, value)
        slow.go_on.set()
        await until(lambda: batcher.worker is None)
        assert slow.sizes == [1]

    asyncio.run(scenario())


def test_what_a_model_raises_reaches_those_who_asked_and_no_other():
    async def scenario():
        slow, batcher = Slow(), Batcher(8, 30)
        with pytest.raises(RuntimeError, match="broken"):
            await submit(batcher, Model(fail, {}, "bad"), 1)
        assert (await submit(batcher, slow.model, 2))["y"].tolist() == [4]

    asyncio.run(scenario())


def test_a_long_input_is_answered_apart_from_short_ones_and_oldest_first(monkeypatch):
    monkeypatch.setattr(batching.inputs, "DYNAMIC", {"x": {0: "batch", 1: "length"}})

    async def scenario():
        slow, batcher = Slow(), Batcher(8, 30)
        shapes = []
        slow.model = slow.model._replace(run=lambda arrays: shapes.append(arrays["x"].shape) or slow.run(arrays))
        slow.go_on.clear()
        jobs = [submit(batcher, slow.model, np.ones(3))]
        await until(lambda: slow.sizes)
        jobs += [submit(batcher, slow.model, np.full(length, length)) for length in (2, 1000, 3, 600, 2)]
        slow.go_on.set()
        answers = await asyncio.gather(*jobs)
        assert shapes == [(1, 3), (3, 3), (2, 1000)]
        assert [answer["y"][0, 0] for answer in answers] == [2, 4, 2000, 6, 1200, 4]

    asyncio.run(scenario())


def test_the_time_of_a_call_is_foreseen_from_the_length_that_a_batch_is_filled_up_to(monkeypatch):
    monkeypatch.setattr(batching.inputs, "DYNAMIC", {"x": {0: "batch", 1: "length"}})

    async def scenario():
        slow, batcher = Slow(), Batcher(8, 30)
        short, long = np.ones(3), np.ones(1000)
        for value in (short, long):  # what the model takes for a length is not known before
            await submit(batcher, slow.model, value)
        assert threading.current_thread() not in slow.threads
        batcher.rates.update({(1, 2): 0.001 / 3, (1, 10): 0.1 / 1000})
        slow.threads.clear()
        await submit(batcher, slow.model, short)
        assert slow.threads == {threading.current_thread()}
        slow.threads.clear()
        await submit(batcher, slow.model, long)
        assert threading.current_thread() not in slow.threads

    asyncio.run(scenario())
