import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from my_project.export import Model
from my_project.serving.batching import Batcher


class Slow:
    """A model that waits until it may go on, and notes what it was called with."""

    def __init__(self, classes="ab"):
        self.sizes, self.threads, self.go_on = [], set(), threading.Event()
        self.go_on.set()
        self.model = Model(self.run, list(classes), (1, 1, 1), classes)

    def run(self, images):
        self.sizes.append(len(images))
        self.threads.add(threading.current_thread())
        assert self.go_on.wait(30)
        value = images.reshape(-1, 1) / 256
        return np.hstack([value, 1 - value]).astype(np.float32)


def fail(images):
    raise RuntimeError("broken")


def image(value):
    return np.full((1, 1, 1, 1), value, np.uint8)


def submit(batcher, images):
    return asyncio.ensure_future(batcher.answer(images))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_an_idle_model_is_called_at_once_and_a_busy_one_with_all_that_wait():
    async def scenario():
        slow = Slow()
        batcher = Batcher(slow.model, 8, 30)
        slow.go_on.clear()
        jobs = [submit(batcher, image(0))]
        await until(lambda: slow.sizes)
        jobs += [submit(batcher, image(value)) for value in range(1, 10)]
        slow.go_on.set()
        answers = await asyncio.gather(*jobs)
        assert slow.sizes == [1, 8, 1]
        assert [round(answer[0, 0] * 256) for _, answer in answers] == list(range(10))

    asyncio.run(scenario())


def test_a_fast_model_stays_in_the_loop_and_a_slow_one_leaves_it():
    async def scenario():
        slow = Slow()
        batcher = Batcher(slow.model, 8, 30)
        await submit(batcher, image(1))  # it is not known yet how long it takes
        assert threading.current_thread() not in slow.threads
        slow.threads.clear()
        batcher.seconds[1] = 0.001
        await submit(batcher, image(1))
        assert slow.threads == {threading.current_thread()}

    asyncio.run(scenario())


def test_a_call_that_takes_no_time_waits_for_nothing():
    async def scenario():
        slow = Slow()
        batcher = Batcher(slow.model, 8, 30)
        batcher.seconds[1] = 0.00001
        with pytest.raises(StopIteration) as end:
            batcher.answer(image(1)).send(None)  # the loop gets no turn before the answer is there
        assert end.value.value[0] is slow.model

    asyncio.run(scenario())


def test_a_batch_has_one_model_whatever_takes_over_meanwhile():
    async def scenario():
        old, new = Slow("ab"), Slow("cd")
        batcher = Batcher(old.model, 8, 30)
        old.go_on.clear()
        before = submit(batcher, image(1))
        await until(lambda: batcher.worker and old.sizes and not before.done())
        batcher.use(new.model)
        after = submit(batcher, image(1))
        old.go_on.set()
        assert [(await job)[0].version for job in (before, after)] == ["ab", "cd"]

    asyncio.run(scenario())


def test_a_wait_ends_at_the_deadline_and_spares_the_model():
    async def scenario():
        slow = Slow()
        batcher = Batcher(slow.model, 8, 0.01)
        slow.go_on.clear()
        for value in range(2):
            with pytest.raises(TimeoutError):
                await submit(batcher, image(value))
        slow.go_on.set()
        await until(lambda: batcher.worker is None)
        assert slow.sizes == [1]

    asyncio.run(scenario())


def test_what_a_model_raises_reaches_those_who_asked_and_no_other():
    async def scenario():
        slow = Slow()
        batcher = Batcher(slow.model, 8, 30)
        batcher.model = replace(slow.model, run=fail)
        with pytest.raises(RuntimeError, match="broken"):
            await submit(batcher, image(1))
        batcher.model = slow.model
        assert (await submit(batcher, image(2)))[0].version == "ab"

    asyncio.run(scenario())
