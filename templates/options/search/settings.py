"""What `tune` is asked for, besides the settings of every trial.

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
    "--study": {"type": str, "default": "search", "help": "its name, and its folder in runs/; the same continues it"},
    "--trials": {"type": int, "default": 20, "help": "how many the study has in the end"},
    "--timeout": {"type": float, "default": 0.0, "help": "seconds after which none begins; 0 sets no bound"},
    "--workers": {"type": int, "default": 1, "help": "trials at the same time on this machine"},
    "--processes": {"type": int, "default": 1, "help": "processes of each trial, started by torchrun"},
    "--storage": {"type": str, "default": "", "help": "a file or a URL; else that in OPTUNA_STORAGE, or a file"},
    "--sampler": {"choices": SAMPLERS, "default": "tpe", "help": "how values are proposed"},
    "--pruner": {"choices": PRUNERS, "default": "median", "help": "how bad trials end early"},
    "--lease": {"type": float, "default": 60.0, "help": "seconds until the trial of a lost worker is free"},
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
    """What both the search and each of its workers are started with.

    The folder of the study lies beside that of a run which `out_dir` names, or in `runs/`.
    """
    if shown := next((addresses.show(word) for word in sys.argv if addresses.SECRET.search(word)), ""):
        raise UserError(
            f"{shown}: all who use this machine can read a password on a command line. Give this"
            " address in the variable OPTUNA_STORAGE, or as storage in a file for --config."
        )
    cfg, args = parse("tune", of_run=False, **ARGUMENTS)
    given = {field.name: args[field.name] for field in fields(Search) if field.name != "folder"}
    search = Search(**given, folder=(cfg.out_dir or Path("runs/0001")).parent / args.study)
    storage = search.storage or os.environ.get("OPTUNA_STORAGE") or str(search.folder / "journal.log")
    return cfg, replace(search, storage=storage)
