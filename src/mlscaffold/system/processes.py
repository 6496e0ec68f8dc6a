"""Run other programs to their end, and what must not be stopped half-way."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def run_to_the_end(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program, with the options of `subprocess.Popen`; Ctrl-C waits until it has ended, too."""
    with subprocess.Popen(command, text=True, errors="backslashreplace", **options) as child:
        try:
            out, err = child.communicate()
        except KeyboardInterrupt:
            child.terminate()
            child.communicate()
            raise
        finally:
            child.kill()  # where it has not ended yet, as after another Ctrl-C
    return subprocess.CompletedProcess(command, child.returncode, out, err)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let nobody stop what is done here half-way: Ctrl-C is ignored, also by the programs that it runs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
