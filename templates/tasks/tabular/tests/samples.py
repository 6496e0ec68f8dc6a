"""Inputs of the task, for tests that know nothing else of it."""

from my_project.task import inputs


def in_json(about, size):
    """So many inputs as the service is asked for them."""
    rows = inputs.example(about, size)["rows"].tolist()
    return [{c["name"]: told(c, value) for c, value in zip(about["columns"], row, strict=True)} for row in rows]


def told(column, value):
    if value != value or ("values" in column and not value):
        return None
    return column["values"][int(value) - 1] if "values" in column else value
