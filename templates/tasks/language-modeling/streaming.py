"""The service of a model that continues texts: a prompt is answered token after token.

Each step is a call of the model of its own. So steps of several requests share batches, none waits for a long text of
another, and a text can be sent while it grows.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

from .generation import Continuation, Prompt
from .tokens import FILE, Vocabulary

DEADLINES = 3  # that a whole text may take; so long, too, a service that ends waits for its last answers

Answer = Callable[[Any, list[Any]], Awaitable[Any]]  # from a model and samples to what `inputs.predictions` gives

load = lru_cache(2)(Vocabulary)  # of the model that answers, and of the one before


def extend(app: FastAPI, reader: Any, step: Answer) -> Answer:
    """Add /stream; return what answers prompts. `step` answers samples by one call of the model."""
    seconds = DEADLINES * reader.settings.deadline_s

    async def answer(model: Any, prompts: list[Prompt]) -> list[dict[str, Any]]:
        return [*await asyncio.gather(*(complete(model, prompt) for prompt in prompts))]

    async def complete(model: Any, prompt: Prompt) -> dict[str, Any]:
        continuation = begin(model, prompt)
        async for _ in grow(model, continuation, step, seconds):
            pass
        return continuation.result()

    async def stream(request: Request) -> StreamingResponse:
        """Continue one prompt, which is asked for as at /predict: lines of JSON with text, then one with the counts."""
        stack = AsyncExitStack()  # as long as the answer is sent, the request counts as one that waits
        async with stack:
            model, prompts = await stack.enter_async_context(reader.samples(request))
            if len(prompts) != 1:
                raise HTTPException(422, "inputs: one prompt can be streamed at a time")
            continuation = begin(model, prompts[0])
            kept = stack.pop_all()

        async def lines() -> AsyncIterator[str]:
            try:
                async with kept:
                    async for text in grow(model, continuation, step, seconds):
                        yield json.dumps({"text": text}) + "\n"
            except (TimeoutError, HTTPException):  # its status is sent already
                yield json.dumps({"error": "it took too long"}) + "\n"
            else:
                yield json.dumps({key: value for key, value in continuation.result().items() if key != "text"}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    body = {"requestBody": {"content": {"application/json": {"schema": reader.type.model_json_schema()}}}}
    app.add_route("/stream", stream, methods=["POST"])
    app.post("/stream", openapi_extra=body)(stream)
    return answer


def begin(model: Any, prompt: Prompt) -> Continuation:
    #: if pretrained == "none"
    return Continuation(load(model.assets[FILE]), prompt, model.about["window"])


    #: endif
    #: if pretrained == "transformers"
    return Continuation(load(model.assets[FILE], end=model.about["end"]), prompt, model.about["window"])


#: endif
async def grow(model: Any, continuation: Continuation, step: Answer, seconds: float) -> AsyncIterator[str]:
    """Continue to the end; give the text of each token that completes some. Raises `TimeoutError` after `seconds`.

    Each call of the model has a deadline of its own.
    """
    end = time.monotonic() + seconds
    while not continuation.done:
        if time.monotonic() > end:
            raise TimeoutError
        [best] = await step(model, [{"tokens": continuation.seen}])
        if text := continuation.take(best["next"]):
            yield text
