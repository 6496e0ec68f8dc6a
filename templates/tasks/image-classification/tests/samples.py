"""Inputs of the task, for tests that know nothing else of it."""

from my_project.task import inputs


def in_json(about, size):
    """So many inputs as the service is asked for them."""
    return inputs.example(about, size)["images"].tolist()
