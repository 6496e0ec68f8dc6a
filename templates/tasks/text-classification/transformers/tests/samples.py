"""Inputs of the task, for tests that know nothing else of it."""


def in_json(about, size):
    """So many inputs as the service is asked for them."""
    return [f"Wo ist {'der ' * (i % 5)}Bahnhof?" for i in range(size)]
