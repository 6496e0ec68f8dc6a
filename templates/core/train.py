"""Train the model: `python -m <package>.train [--config FILE.yaml] [--group.name value ...]`.

In several processes: `torchrun --nproc-per-node N -m <package>.train [...]`.
"""

import os
import sys
from collections.abc import Callable

from .config import Config, parse
from .errors import plain_errors


def run(cfg: Config, report: Callable[[int, float], None] | None = None) -> float:
    """Train once; return the best validation score (`objective.monitor`), the same in every process.

    `report` is given (samples trained on, score) after each validation, and may raise in all processes to end the
    run. Raises `UserError` before anything is written when settings, data or the run's folder do not allow it.
    """
    from .training.run import run  # brings torch, which --help does not wait for

    return run(cfg, report)


def main() -> None:
    with plain_errors():
        cfg, _ = parse("train")
        if os.environ.get("RANK", "0") == "0":
            print("loading PyTorch ...", file=sys.stderr, flush=True)
        from .distributed.processes import process_group

        with process_group():
            run(cfg)


if __name__ == "__main__":
    main()
