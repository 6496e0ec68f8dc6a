"""Functions that do not end well, for forks; importing this takes none of the time that they have."""

import os
import subprocess
import time
from pathlib import Path


def fail() -> None:
    raise ValueError("no such verb")


def hang() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    Path("child").write_text(str(child.pid))
    time.sleep(1000)


def end_early() -> None:
    os._exit(0)
