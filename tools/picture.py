"""Draw docs/terminal.svg for the README from what the commands really print: `python tools/picture.py`."""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = [
    "mlscaffold new digits --framework ignite --ddp",
    "cd digits",
    "torchrun --nproc-per-node 2 -m digits.train --num_threads 1",
    "python -m digits.evaluate",
]
SHOWN = 12  # lines at the end of what a command prints


def main() -> None:
    console = Console(record=True, width=100, file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for command in COMMANDS:
            console.print(Text(f"$ {command}", style="bold"))
            if command.startswith("cd "):
                here /= command.removeprefix("cd ")
                continue
            scripts = Path(sys.executable).parent
            environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": "src"}
            done = subprocess.run(
                command, shell=True, cwd=here, env=environment, stdin=subprocess.DEVNULL, capture_output=True
            )
            lines = done.stdout.decode().splitlines()
            console.print(Text("\n".join(["...", *lines[-SHOWN:]] if len(lines) > SHOWN else lines)))
    console.save_svg("docs/terminal.svg", title="mlscaffold")


if __name__ == "__main__":
    main()
