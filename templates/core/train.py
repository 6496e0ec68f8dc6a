"""Train the model: `python -m <package>.train [--config FILE.yaml] [--group.name value ...]`.

#: if strategy == "single"
What it learns and logs goes to a folder of its own, `runs/0001` at first.
#: endif
#: if strategy != "single"
In several processes: `torchrun --nproc-per-node N -m <package>.train [...]`.
`--estimate N` trains nothing; it says how much memory each of N processes needs for the model.
#: endif
"""

#: if strategy != "single"
import argparse
import os
#: endif
import sys
from collections.abc import Callable

from .config import Config, parse, quick_imports
from .errors import plain_errors


def run(cfg: Config, report: Callable[[int, float], None] | None = None) -> float:
    """Train once; return the best validation score (`objective.monitor`).

    `report` is called with (samples trained on, score) after each validation, and may raise to end the run.
    #: if strategy != "single"
    All this is the same in every process; `report` has to raise in all of them.
    #: endif
    Raises `UserError` before anything is written when settings, data or the run's folder do not allow it.
    """
    from .training.run import train  # brings torch, which --help does not wait for

    return train(cfg, report)


#: if strategy == "single"
def main() -> None:
    with plain_errors():
        cfg, _ = parse("train")
        print("loading PyTorch ...", file=sys.stderr, flush=True)
        with quick_imports():
            from .training.run import train

        train(cfg)


#: endif
#: if strategy != "single"
def main() -> None:
    about = "print the memory that each of so many processes needs for the model, and end"
    own = {"type": int, "metavar": "N", "default": argparse.SUPPRESS, "help": about}
    with plain_errors():
        cfg, args = parse("train", of_run=False, **{"--estimate": own})
        if os.environ.get("RANK", "0") == "0":
            print("loading PyTorch ...", file=sys.stderr, flush=True)
        with quick_imports():
            from .distributed.processes import process_group
            from .training.estimate import show
            from .training.run import train

        if "estimate" in args:
            show(cfg, args.estimate)
            return
        with process_group(cfg.timeout):
            train(cfg)


#: endif
if __name__ == "__main__":
    main()
