import asyncio

import httpx
from fastapi import FastAPI

from my_project.serving import monitoring


def read_metrics(version):
    async def ask():
        app = FastAPI()
        monitoring.mount(app, lambda: version, lambda: 5)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/metrics")

    lines = [line for line in asyncio.run(ask()).text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_tell_what_the_service_does():
    before = read_metrics("old")  # other tests of this process have counted, too
    monitoring.count_request("/predict", 200, 0.1)
    monitoring.count_request("/predict", 504, 10)
    monitoring.count_request("/wp-admin", 404, 0.1)
    monitoring.count_batches(lambda arrays: arrays)({"x": [1, 2, 3]})
    monitoring.count_reload("failed")
    metrics = read_metrics("new")
    for name, rise in (
        ('serving_requests_total{path="/predict",status="200"}', 1),
        ('serving_requests_total{path="other",status="404"}', 1),
        ('serving_errors_total{path="/predict"}', 1),
        ('serving_request_seconds_count{path="/predict"}', 2),
        ('serving_batch_size_bucket{le="4.0"}', 1),
        ('serving_reloads_total{outcome="failed"}', 1),
    ):
        assert metrics[name] - before.get(name, 0) == rise
    assert metrics["serving_queue_requests"] == 5
    assert metrics['serving_model_info{version="new"}'] == 1
    assert not any("old" in name or "wp-admin" in name for name in metrics)
