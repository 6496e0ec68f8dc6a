"""Batches without waiting for them: an idle model takes a request at once, a busy one all that came since."""

import asyncio
import time
from collections import defaultdict, deque

from ..task import inputs
from ..task.inputs import Arrays
from . import monitoring
from .exported import Model

FAST_S = 0.005  # so long a call of the model may hold up the event loop, and with it the health endpoints
INSTANT_S = 0.0001  # so short a call is over before others could have joined it

Job = tuple[Model, list[Arrays], asyncio.Future[Arrays]]  # samples that wait for the model they were decoded for


class Batcher:
    """Calls models: at once if that takes no time, in the event loop while it is fast, else in a thread."""

    def __init__(self, most: int, deadline_s: float) -> None:
        self.most, self.deadline_s = most, deadline_s
        self.jobs: deque[Job] = deque()
        self.seconds = defaultdict[int, float](lambda: float("inf"))  # of the last call, by log2 of its size
        self.worker: asyncio.Task[None] | None = None

    async def answer(self, model: Model, samples: list[Arrays]) -> Arrays:
        """What the model gives for these samples, `most` or fewer; raises `TimeoutError` after `deadline_s`."""
        if self.worker is None and self.seconds[len(samples).bit_length()] < INSTANT_S:
            return self.run(model, inputs.collate(samples))
        job: Job = (model, samples, asyncio.get_running_loop().create_future())
        self.jobs.append(job)
        self.worker = self.worker or asyncio.create_task(self.work())  # begins when all that came is read
        async with asyncio.timeout(self.deadline_s):
            return await job[2]

    async def work(self) -> None:
        """Answer batch after batch, until nobody waits."""
        while jobs := self.take():
            try:
                model, together = jobs[0][0], [sample for _, samples, _ in jobs for sample in samples]
                fast, arrays = self.seconds[len(together).bit_length()] < FAST_S, inputs.collate(together)
                answers = self.run(model, arrays) if fast else await asyncio.to_thread(self.run, model, arrays)
                for _, samples, job in jobs:
                    part = {name: array[: len(samples)] for name, array in answers.items()}
                    answers = {name: array[len(samples) :] for name, array in answers.items()}
                    if not job.done():
                        job.set_result(part)
            except Exception as error:
                for _, _, job in jobs:
                    if not job.done():
                        job.set_exception(error)
            await asyncio.sleep(0)  # requests that came meanwhile are read
        self.worker = None

    def take(self) -> list[Job]:
        """The next jobs for one model that fit in one batch, without those that nobody waits for any more."""
        jobs, size = list[Job](), 0
        while self.jobs and size + len(self.jobs[0][1]) <= self.most and self.jobs[0][0] is (jobs or self.jobs)[0][0]:
            job = self.jobs.popleft()
            if not job[2].done():
                jobs.append(job)
                size += len(job[1])
        return jobs

    def run(self, model: Model, arrays: Arrays) -> Arrays:
        """What a model answers; notes the seconds of this thread, so that waits for others do not count."""
        size, begin = len(arrays[inputs.INPUTS[0]]), time.thread_time()
        monitoring.count_batch(size)
        answers = model.run(arrays)
        self.seconds[size.bit_length()] = time.thread_time() - begin
        return answers
