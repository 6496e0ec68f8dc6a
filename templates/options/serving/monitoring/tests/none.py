import asyncio

import httpx
from fastapi import FastAPI

from my_project.serving import monitoring


def test_a_service_without_monitoring_tells_nothing():
    async def ask():
        app = FastAPI()
        monitoring.add_endpoint(app)
        monitoring.count_batch(1)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/metrics")

    assert asyncio.run(ask()).status_code == 404
