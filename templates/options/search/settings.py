"""The settings of a search, besides those of its trials.

Nothing here imports torch or Optuna, so that `--help` answers at once.
"""

import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from .. import addresses
from ..config import Config, parse
from ..errors import UserError

RECLAIM = "first let trials go on whose worker is certainly gone, where no heartbeat tells that"


@dataclass(frozen=True, kw_only=True)
class Search:
    """Search."""

    study: str = "search"
    """name of the study and of its folder; the same name continues it"""
    trials: PositiveInt = 20
    """number of trials of the study"""
    workers: NonNegativeInt = 1
    """processes of this command to have here, each with one trial at a time; 0 is one that writes no results"""
    storage: str = ""
    """file or URL; by default OPTUNA_STORAGE, else an SQLite file in the study's folder"""
    sampler: Literal["tpe", "random", "gp"] = "tpe"
    """how values are proposed"""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """how bad trials are ended early"""
    heartbeat: PositiveInt = 30
    """seconds between signs of life in a database; the trial of a worker that misses two goes on elsewhere"""
    reclaim: bool = False
    """see RECLAIM: a flag without a value"""
    older_than: NonNegativeFloat = 0.0
    """seconds of silence after which `reclaim` takes a worker on another machine to be gone; 0 waits for ever"""


def own_file(folder: Path) -> str:
    """The storage of a study that was given none."""
    return f"sqlite:///{folder.as_posix()}/study.db"


def read_command() -> tuple[Config, Search]:
    """The command line of a search. `out_dir` is the study's folder: next to the one that is given, or in `runs/`."""
    if shown := next((addresses.show(word) for word in sys.argv if addresses.SECRET.search(word)), ""):
        raise UserError(
            f"{shown}: every user of this machine can read a password on a command line. Give this"
            " address in the variable OPTUNA_STORAGE, or as storage in a file for --config."
        )
    own: dict[str, Any] = {"--reclaim": {"action": "store_true", "help": RECLAIM}, "search": Search}
    cfg, args = parse("tune", **own)
    search = Search(**{field.name: args[field.name] for field in fields(Search)})
    if Path(search.study).name != search.study:
        raise UserError(f"study={search.study}: it names a folder; give a name without slashes.")
    folder = (cfg.out_dir or Path("runs/0001")).parent / search.study
    given = search.storage or os.environ.get("OPTUNA_STORAGE")
    if not given and (old := folder / "journal.log").exists():
        more = f"--storage {old} --reclaim --older_than 1 goes on with it, once nothing trains there"
        raise UserError(f"{old}: a release before 0.9 of the template kept this study here. {more}.")
    return replace(cfg, out_dir=folder), replace(search, storage=given or own_file(folder))
