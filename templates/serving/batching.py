"""Batches without waiting for them: an idle model takes a request at once, a busy one all that came since."""

import asyncio
import math
import time
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..config import UserError
from ..export import Model, Pixels, Probabilities
from . import monitoring

FAST_S = 0.005  # so long a call of the model may hold up the event loop, and with it the health endpoints

Answer = tuple[Model, Probabilities]  # and the model that gave it


class Batcher:
    """Calls the model: within the event loop while it is fast, in a thread while it is slow."""

    def __init__(self, model: Model, most: int) -> None:
        self.model, self.most = model, most
        self.jobs: deque[tuple[Pixels, asyncio.Future[Answer]]] = deque()
        self.thread = ThreadPoolExecutor(1, "model")
        self.seconds = defaultdict[int, float](lambda: math.inf)  # of the last call, by log2 of its size
        self.worker: asyncio.Task[None] | None = None
        self.use(model)

    def use(self, model: Model) -> None:
        """Answer with this model from the next batch on; raises `UserError` if it takes other inputs."""
        if model.shape != self.model.shape:
            raise UserError(
                f"a model for images {list(model.shape)} cannot take over: start another service."
            )
        self.model = model
        monitoring.set_model(model.version)

    def submit(self, images: Pixels) -> asyncio.Future[Answer]:
        """The probabilities of these images, `most` or fewer, once they are there."""
        loop = asyncio.get_running_loop()
        job: asyncio.Future[Answer] = loop.create_future()
        self.jobs.append((images, job))
        if self.worker is None:  # it begins when all that has arrived by now was read
            self.worker = loop.create_task(self.work())
        return job

    async def work(self) -> None:
        """Answer batch after batch, until nobody waits."""
        while jobs := self.take():
            model = self.model  # of the whole batch, whatever takes over meanwhile
            try:
                answers = await self.call(model, np.concatenate([images for images, _ in jobs]))
                ends = np.cumsum([len(images) for images, _ in jobs])
                for (_, job), part in zip(jobs, np.split(answers, ends[:-1]), strict=True):
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
        monitoring.count_batch(len(images))
        size, thread, loop = len(images).bit_length(), self.thread, asyncio.get_running_loop()
        fast = self.seconds[size] < FAST_S
        result = timed(model, images) if fast else await loop.run_in_executor(thread, timed, model, images)
        answers, self.seconds[size] = result
        return answers


def timed(model: Model, images: Pixels) -> tuple[Probabilities, float]:
    """What a model answers, and the seconds of this thread: those that it waits for others do not count."""
    begin = time.thread_time()
    return model.run(images), time.thread_time() - begin
