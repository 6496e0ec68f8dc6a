"""Search for settings with Optuna: `python -m <package>.tune [--trials N] [--workers W] [...]`.

What is varied is in `task/search_space.py`. The same command continues a study, also on another machine that reaches
its `--storage`.
"""

import sys

from .errors import plain_errors
from .search.settings import read_command


def main() -> None:
    with plain_errors():
        cfg, search = read_command()
        print("loading PyTorch and Optuna ...", file=sys.stderr, flush=True)
        from .search.run import run

        run(cfg, search)


if __name__ == "__main__":
    main()
