"""Inputs of the task, for tests that know nothing else of it."""


def in_json(about, size):
    """So many inputs as the service is asked for them: those of `inputs.example`."""
    classes = about["classes"]
    return [{"class": classes[number % len(classes)], "seed": number} for number in range(size)]
