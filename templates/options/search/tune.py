"""Search for settings with Optuna: `python -m <package>.tune [--trials N] [--workers W] [...]`.

`task/search_space.py` says what is varied. The same command continues a study, also on another machine that can
reach its `--storage`.
"""

import sys

from .config import quick_imports
from .errors import plain_errors
from .search.settings import read_command


def main() -> None:
    with plain_errors():
        cfg, search = read_command()
        print("loading PyTorch and Optuna ...", file=sys.stderr, flush=True)
        with quick_imports():
            from .search.run import run

        run(cfg, search)


if __name__ == "__main__":
    main()
