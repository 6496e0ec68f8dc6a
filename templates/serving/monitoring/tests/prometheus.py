import asyncio

import httpx
from fastapi import FastAPI

from my_project.serving import monitoring


def test_metrics_tell_what_the_service_does():
    async def ask():
        app = FastAPI()
        monitoring.add_endpoint(app)
        monitoring.count_request("/predict", 200, 0.1)
        monitoring.count_request("/predict", 504, 10)
        monitoring.count_request("/wp-admin", 404, 0.1)
        monitoring.count_batch(3)
        monitoring.count_reload("failed")
        monitoring.watch_queue(lambda: 5)
        monitoring.set_model("old")
        monitoring.set_model("new")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/metrics")

    lines = asyncio.run(ask()).text.splitlines()
    for line in (
        'serving_requests_total{path="/predict",status="200"} 1.0',
        'serving_requests_total{path="other",status="404"} 1.0',
        'serving_errors_total{path="/predict"} 1.0',
        'serving_request_seconds_count{path="/predict"} 2.0',
        'serving_batch_size_bucket{le="4.0"} 1.0',
        'serving_reloads_total{outcome="failed"} 1.0',
        "serving_queue_requests 5.0",
        'serving_model_info{version="new"} 1.0',
    ):
        assert line in lines
    assert not any("old" in line or "wp-admin" in line for line in lines)
