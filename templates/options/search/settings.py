"""The settings of a search, besides those of its trials.

Nothing here imports torch or Optuna, so that `--help` answers at once.
"""

import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .. import addresses
from ..config import Config, parse
from ..errors import UserError

SAMPLERS = ("tpe", "random", "gp")
PRUNERS = ("median", "hyperband", "none")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "--study": {
        "type": str,
        "default": "search",
        "help": "name of the study and its folder; the same continues it",
    },
    "--trials": {"type": int, "default": 20, "help": "number of trials of the study"},
    "--timeout": {"type": float, "default": 0.0, "help": "seconds after which no trial starts; 0 sets no limit"},
    "--workers": {"type": int, "default": 1, "help": "trials that run at the same time on this machine"},
    "--processes": {"type": int, "default": 1, "help": "processes of each trial, started by torchrun"},
    "--storage": {"type": str, "default": "", "help": "file or URL; by default OPTUNA_STORAGE, or a file of its own"},
    "--sampler": {"choices": SAMPLERS, "default": "tpe", "help": "how values are proposed"},
    "--pruner": {"choices": PRUNERS, "default": "median", "help": "how bad trials are ended early"},
    "--lease": {"type": float, "default": 60.0, "help": "seconds after which the trial of a lost worker is free"},
}


@dataclass(frozen=True)
class Search:
    """The values of `ARGUMENTS`, and the folder of the study."""

    study: str
    trials: int
    timeout: float
    workers: int
    processes: int
    storage: str
    sampler: str
    pruner: str
    lease: float
    folder: Path

    def __post_init__(self) -> None:
        for name in ("trials", "workers", "processes", "lease"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: give 1 or more.")
        if Path(self.study).name != self.study:
            raise UserError(f"study={self.study}: it names a folder; give a name without slashes.")


def read_command() -> tuple[Config, Search]:
    """The command line of a search and of each of its workers.

    The folder of the study is next to `out_dir`, or in `runs/` without one.
    """
    if shown := next((addresses.show(word) for word in sys.argv if addresses.SECRET.search(word)), ""):
        raise UserError(
            f"{shown}: every user of this machine can read a password on a command line. Give this"
            " address in the variable OPTUNA_STORAGE, or as storage in a file for --config."
        )
    cfg, args = parse("tune", of_run=False, **ARGUMENTS)
    given = {field.name: args[field.name] for field in fields(Search) if field.name != "folder"}
    search = Search(**given, folder=(cfg.out_dir or Path("runs/0001")).parent / args.study)
    storage = search.storage or os.environ.get("OPTUNA_STORAGE") or str(search.folder / "journal.log")
    return cfg, replace(search, storage=storage)
