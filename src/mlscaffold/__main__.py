"""Run `mlscaffold`, or `python -m mlscaffold`."""

import os
import sys


def _here() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 (as Python writes it into sys.path)
    except OSError:  # the folder is gone
        return ""


def _open_streams() -> None:
    """Put an empty file in the place of each stream that is closed, where Python has None."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nothing, True)  # by programs that are started, which expect one there, too
            setattr(sys, name, os.fdopen(nothing, mode, encoding="utf-8"))


def main() -> None:
    """Run the command line; Ctrl-C ends it quietly, too, before it is there."""
    _open_streams()
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
