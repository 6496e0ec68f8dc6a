"""Batches without waiting for them: an idle model takes a request at once, a busy one all that came since."""

import asyncio
import time
from collections import defaultdict, deque

import numpy as np

from ..config import UserError
from ..export import Model, Pixels, Probabilities
from . import monitoring

FAST_S = 0.005  # so long a call of the model may hold up the event loop, and with it the health endpoints
INSTANT_S = 0.0001  # so short a call is over before others could have joined it

Answer = tuple[Model, Probabilities]  # and the model that gave it


class Batcher:
    """Calls the model: at once if it takes no time, in the event loop while it is fast, else in a thread."""

    def __init__(self, model: Model, most: int, deadline_s: float) -> None:
        self.model, self.most, self.deadline_s = model, most, deadline_s
        self.jobs: deque[tuple[Pixels, asyncio.Future[Answer]]] = deque()
        self.seconds = defaultdict[int, float](lambda: float("inf"))  # of the last call, by log2 of its size
        self.worker: asyncio.Task[None] | None = None
        self.use(model)

    def use(self, model: Model) -> None:
        """Answer with this model from the next batch on; raises `UserError` if it takes other inputs."""
        if model.shape != self.model.shape:
            raise UserError(f"images {list(model.shape)} are another model's: start another service.")
        self.model = model
        monitoring.set_model(model.version)

    async def answer(self, images: Pixels) -> Answer:
        """The probabilities of these images, `most` or fewer; raises `TimeoutError` after `deadline_s`."""
        if self.worker is None and self.seconds[len(images).bit_length()] < INSTANT_S:
            return self.model, self.run(self.model, images)
        job: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.jobs.append((images, job))
        self.worker = self.worker or asyncio.create_task(self.work())  # begins when all that came is read
        async with asyncio.timeout(self.deadline_s):
            return await job

    async def work(self) -> None:
        """Answer batch after batch, until nobody waits."""
        while jobs := self.take():
            model = self.model  # of the whole batch, whatever takes over meanwhile
            try:
                answers = await self.call(model, np.concatenate([images for images, _ in jobs]))
                for images, job in jobs:
                    part, answers = answers[: len(images)], answers[len(images) :]
                    if not job.done():
                        job.set_result((model, part))
            except Exception as error:
                for _, job in jobs:
                    if not job.done():
                        job.set_exception(error)
            await asyncio.sleep(0)  # requests that came meanwhile are read
        self.worker = None

    def take(self) -> list[tuple[Pixels, asyncio.Future[Answer]]]:
        """The next jobs that fit in one batch, without those that nobody waits for any more."""
        jobs, size = [], 0
        while self.jobs and size + len(self.jobs[0][0]) <= self.most:
            images, job = self.jobs.popleft()
            if not job.done():
                jobs.append((images, job))
                size += len(images)
        return jobs

    async def call(self, model: Model, images: Pixels) -> Probabilities:
        if self.seconds[len(images).bit_length()] < FAST_S:
            return self.run(model, images)
        return await asyncio.to_thread(self.run, model, images)

    def run(self, model: Model, images: Pixels) -> Probabilities:
        """What a model answers; notes the seconds of this thread, so that waits for others do not count."""
        monitoring.count_batch(len(images))
        begin = time.thread_time()
        answers = model.run(images)
        self.seconds[len(images).bit_length()] = time.thread_time() - begin
        return answers
