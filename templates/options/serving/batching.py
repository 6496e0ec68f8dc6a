"""Batches without waiting for them: an idle model takes a request at once, a busy one all that came since."""

import asyncio
import time
from collections import defaultdict
from typing import NamedTuple

from ..task import inputs
from ..task.inputs import Arrays
from .exported import Model, measure

FAST_S = 0.005  # so long a call of the model may hold up the event loop, and with it the health endpoints
INSTANT_S = 0.0001  # so short a call is over before others could have joined it


class Job(NamedTuple):
    """Samples that wait for the model they were decoded for."""

    model: Model
    samples: list[Arrays]
    length: int  # of the longest
    answer: asyncio.Future[Arrays]


class Batcher:
    """Calls models: at once if that takes no time, in the event loop while it is fast, else in a thread.

    How long a call will take is foreseen from the last one of about as many samples of about the same length. Samples
    are filled up to the longest of their batch, so a batch has samples of like length only.
    """

    def __init__(self, most: int, deadline_s: float) -> None:
        self.most, self.deadline_s = most, deadline_s
        self.jobs: list[Job] = []
        # Seconds for each sample and unit of length, by log2 of their number and of their length.
        self.rates = defaultdict[tuple[int, int], float](lambda: float("inf"))
        self.worker: asyncio.Task[None] | None = None

    def foresee(self, number: int, length: int) -> float:
        """The seconds of a call for so many samples, filled up to a length."""
        return self.rates[number.bit_length(), length.bit_length()] * number * length

    async def answer(self, model: Model, samples: list[Arrays]) -> Arrays:
        """What the model gives for these samples, `most` or fewer; raises `TimeoutError` after `deadline_s`."""
        length = max(map(measure, samples))
        if self.worker is None and self.foresee(len(samples), length) < INSTANT_S:
            return self.run(model, inputs.collate(samples))
        job = Job(model, samples, length, asyncio.get_running_loop().create_future())
        self.jobs.append(job)
        self.worker = self.worker or asyncio.create_task(self.work())  # begins when all that came is read
        async with asyncio.timeout(self.deadline_s):
            return await job.answer

    async def work(self) -> None:
        """Answer batch after batch, until nobody waits."""
        while jobs := self.take():
            try:
                model, together = jobs[0].model, [sample for job in jobs for sample in job.samples]
                fast = self.foresee(len(together), max(job.length for job in jobs)) < FAST_S
                arrays = inputs.collate(together)
                answers = self.run(model, arrays) if fast else await asyncio.to_thread(self.run, model, arrays)
                for job in jobs:
                    part = {name: array[: len(job.samples)] for name, array in answers.items()}
                    answers = {name: array[len(job.samples) :] for name, array in answers.items()}
                    if not job.answer.done():
                        job.answer.set_result(part)
            except Exception as error:
                for job in jobs:
                    if not job.answer.done():
                        job.answer.set_exception(error)
            await asyncio.sleep(0)  # requests that came meanwhile are read
        self.worker = None

    def take(self) -> list[Job]:
        """The oldest job, and those for its model and of its length that fit in one batch.

        Jobs that nobody waits for any more are left out.
        """
        waiting = [job for job in self.jobs if not job.answer.done()]
        jobs, self.jobs, size = list[Job](), list[Job](), 0
        for job in waiting:
            alike = job.model is waiting[0].model and job.length.bit_length() == waiting[0].length.bit_length()
            if fits := alike and size + len(job.samples) <= self.most:
                size += len(job.samples)
            (jobs if fits else self.jobs).append(job)
        return jobs

    def run(self, model: Model, arrays: Arrays) -> Arrays:
        """What a model answers; notes the seconds of this thread, so that waits for others do not count."""
        size, length = len(arrays[inputs.INPUTS[0]]), measure({name: array[0] for name, array in arrays.items()})
        begin = time.thread_time()
        answers = model.run(arrays)
        self.rates[size.bit_length(), length.bit_length()] = (time.thread_time() - begin) / (size * length)
        return answers
