"""Run `mlscaffold`, or `python -m mlscaffold`."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it quietly, too, before it is there."""
    try:
        from mlscaffold.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
