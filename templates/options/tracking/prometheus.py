"""Metrics of a training run for Prometheus, in three ways, chosen by environment variables:

METRICS_ADDRESS   the address to scrape, such as [::]:8001; by default 127.0.0.1:8001, none if it is empty
METRICS_FILE      a file for the node exporter's textfile collector, such as /var/lib/node_exporter/x.prom
PUSHGATEWAY_URL   a Pushgateway, such as http://gateway:9091; a login or token in it is never shown

A training step only sets numbers in memory. Network and disk, which can be slow or fail, are used in other threads, so
they neither delay a run nor end it.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from threading import Event, Thread

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    ProcessCollector,
    pushadd_to_gateway,
    start_http_server,
    write_to_textfile,
)

from .. import addresses
from ..runs.progress import Progress

INTERVAL_S = 10.0  # between two files or pushes
GRACE_S = 5.0  # that the end of a run waits for the last one


class Prometheus(AbstractContextManager["Prometheus"]):
    """A gauge for every metric that is logged: `train/loss` is training_loss, `val/f1` is training_val_f1."""

    def __init__(self, out_dir: Path, progress: Progress) -> None:
        self.run, self.progress = out_dir.name, progress
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory and processor time of this process
        self.gauges: dict[str, Gauge] = {}
        self._set("running", 1)
        self._set("failed", 0)
        self.close_server = serve(self.registry)
        self.ended = Event()
        self.deliveries = deliveries(self.registry, self.run)
        self.thread = Thread(target=self._deliver, daemon=True)
        self.thread.start()

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._set(name.removeprefix("train/"), value)
        self._set("step", step)
        self._set("epoch", self.progress.shown_epoch)
        self._set("last_update_timestamp_seconds", time.time())

    def __exit__(self, failed: object, *error: object) -> None:
        self._set("running", 0)
        self._set("failed", 1 if failed else 0)
        self.ended.set()
        self.thread.join(GRACE_S)
        self.close_server()

    def _set(self, name: str, value: float) -> None:
        if name not in self.gauges:
            metric = "training_" + re.sub(r"\W", "_", name)
            self.gauges[name] = Gauge(metric, f"{name} of a training run", ["run"], registry=self.registry)
        self.gauges[name].labels(self.run).set(value)

    def _deliver(self) -> None:
        """Deliver at intervals, and once more at the end."""
        ended = not self.deliveries
        while not ended:
            ended = self.ended.wait(INTERVAL_S)
            for where, deliver in self.deliveries.items():
                try:
                    deliver()
                except Exception as error:  # the run continues
                    complain(where, error)


def serve(registry: CollectorRegistry) -> Callable[[], None]:
    """Answer scrapes at METRICS_ADDRESS; return a function that stops. Does nothing if the address is in use."""
    address = os.environ.get("METRICS_ADDRESS", "127.0.0.1:8001")
    if not address:
        return lambda: None
    host, _, port = address.rpartition(":")
    try:
        server, _ = start_http_server(int(port), host.strip("[]"), registry)
    except (OSError, OverflowError, ValueError) as error:
        complain(f"METRICS_ADDRESS={address}", error)
        return lambda: None

    def close() -> None:
        server.shutdown()
        server.server_close()

    return close


def deliveries(registry: CollectorRegistry, run: str) -> dict[str, Callable[[], None]]:
    """Functions that deliver the metrics, by the variable that asks for it."""
    found: dict[str, Callable[[], None]] = {}
    if file := os.environ.get("METRICS_FILE"):
        found[f"METRICS_FILE={file}"] = partial(write_to_textfile, file, registry)
    if url := os.environ.get("PUSHGATEWAY_URL"):
        found[f"PUSHGATEWAY_URL={addresses.show(url)}"] = partial(
            pushadd_to_gateway, url, (__package__ or "").partition(".")[0], registry, {"run": run}, timeout=GRACE_S
        )
    return found


def complain(where: str, error: Exception) -> None:
    """Warn about metrics that cannot be delivered; the run continues."""
    reason = addresses.hide(str(error), os.environ.get("PUSHGATEWAY_URL", "")) or type(error).__name__
    print(f"warning: {where}: no metrics there ({reason}).", file=sys.stderr)
