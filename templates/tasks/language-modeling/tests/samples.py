"""Inputs of the task, for tests that know nothing else of it."""


def in_json(about, size):
    """So many inputs as the service is asked for them: texts, and records with settings."""
    texts = [f"The {'statement ' * (i % 5)}" for i in range(size)]
    return [text if i % 2 else {"prompt": text, "max_tokens": 5, "seed": i} for i, text in enumerate(texts)]
