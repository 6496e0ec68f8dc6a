"""What stands at the other end: a person at a terminal, or another program."""

import os
import sys


def can_ask() -> bool:
    """Tell whether someone sits at a terminal that can move its cursor."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
