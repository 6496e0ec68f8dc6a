"""Run `mlscaffold`, or `python -m mlscaffold`."""

import os
import sys


def _here() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 (as Python writes it into sys.path)
    except OSError:  # the folder is gone
        return ""


def main() -> None:
    """Run the command line; Ctrl-C ends it quietly, too, before it is there."""
    try:
        from mlscaffold.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    # `python -m` looks for modules in the current folder first, which may be a stranger's.
    if __spec__ is not None and not sys.flags.safe_path and sys.path[:1] in ([""], [_here()]):
        del sys.path[0]
    main()
