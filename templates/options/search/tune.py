"""Search for settings with Optuna: `python -m <package>.tune [--trials N] [...]`.

`task/search_space.py` says what is varied. The same command continues a study, and takes part in it if it is started
again meanwhile: here, or on another machine that can reach its `--storage`.
#: if strategy != "single"
For trials of several processes: `torchrun --nproc-per-node N -m <package>.tune [...]`.
#: endif
"""

#: if strategy != "single"
import os
#: endif
import sys

from .config import quick_imports
from .errors import plain_errors
from .search.settings import read_command


#: if strategy == "single"
def main() -> None:
    with plain_errors():
        cfg, search = read_command()
        print("loading PyTorch and Optuna ...", file=sys.stderr, flush=True)
        with quick_imports():
            from .search.run import run

        run(cfg, search)


#: endif
#: if strategy != "single"
def main() -> None:
    with plain_errors():
        cfg, search = read_command()
        if os.environ.get("RANK", "0") == "0":
            print("loading PyTorch and Optuna ...", file=sys.stderr, flush=True)
        with quick_imports():
            from .distributed.processes import process_group
            from .search.run import run

        with process_group(cfg.timeout):
            run(cfg, search)


#: endif
if __name__ == "__main__":
    main()
