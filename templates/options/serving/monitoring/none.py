"""What the service tells about itself: nothing, in this project."""

from collections.abc import Callable

from fastapi import FastAPI


def add_endpoint(app: FastAPI) -> None:
    """There is none."""


def count_batch(size: int) -> None:
    """The model was called with so many inputs."""


def count_reload(outcome: str) -> None:
    """Another model was to take over: done, or failed."""


def watch_queue(waiting: Callable[[], int]) -> None:
    """So many requests wait for the model, whenever someone asks."""


def set_model(version: str) -> None:
    """This model answers from now on."""
