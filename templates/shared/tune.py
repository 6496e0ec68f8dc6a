"""Search for settings with Optuna: `python -m <package>.tune [--trials N] [--workers W] [...]`.

What is varied is in `search_space.py`. The same command goes on with a study, also on another machine that
reaches its `--storage`.
"""

import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization.matplotlib import (
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
)

from .config import UserError, plain_errors
from .leases import Leases
from .objective import MONITOR
from .storage import save_text
from .study import create_study, load_study, read_command
from .supervisor import Supervisor

LOOK_S = 0.5  # between looks at the workers and their trials
PLOTS: dict[str, Callable[[optuna.Study], Any]] = {
    "history": plot_optimization_history,
    "importances": plot_param_importances,
    "coordinates": plot_parallel_coordinate,
}


class Progress:
    """A line for each trial that ends, and on a terminal a bar below them."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        self.told = {trial.number for trial in trials if trial.state.is_finished()}
        self.terminal = sys.stderr.isatty()
        if self.told:
            self.say(f"{len(self.told)} of {len(trials)} trials have ended before")

    def say(self, line: str) -> None:
        self.draw("")
        print(line, flush=True)

    def draw(self, bar: str) -> None:
        if self.terminal:
            print(f"\r\033[K{bar}", end="", file=sys.stderr, flush=True)

    def show(self, trials: list[FrozenTrial]) -> None:
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self.told:
                self.told.add(trial.number)
                self.say(told(trial))
        done = 30 * len(self.told) // len(trials)
        running = sum(trial.state is TrialState.RUNNING for trial in trials)
        self.draw(f"[{'#' * done:-<30}] {len(self.told)}/{len(trials)} trials, {running} running")


def told(trial: FrozenTrial) -> str:
    """A trial that has ended, in a line."""
    value = "" if trial.value is None else f"  {MONITOR} {trial.value:.4f}"
    epochs = f" after epoch {trial.last_step}" if trial.state is TrialState.PRUNED else ""
    reason = f"  {trial.user_attrs.get('reason', '')}" if trial.state is TrialState.FAIL else ""
    return f"trial {trial.number:4}  {trial.state.name.lower()}{epochs}{value}{reason}"


def write_results(study: optuna.Study, folder: Path) -> None:
    """`best.yaml`, and pictures of how the search went."""
    best = study.best_trial
    settings = best.user_attrs["config"] | {"out_dir": str(folder / "best"), "resume": "never"}
    about = f"# {MONITOR} {best.value}, trial {best.number} of {study.study_name}\n"
    save_text(folder / "best.yaml", about + yaml.safe_dump(settings, sort_keys=False))
    matplotlib.use("agg")
    for name, plot in PLOTS.items():
        with warnings.catch_warnings(), suppress(RuntimeError, ValueError):  # too few trials for a picture
            warnings.simplefilter("ignore")
            figure = plot(study).figure
            figure.set_size_inches(10, 5)
            figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")


def main() -> None:
    with plain_errors():
        cfg, search = read_command()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = create_study(cfg, search)
        search.folder.mkdir(parents=True, exist_ok=True)  # of the pictures, wherever the storage is
        trials = Leases(storage, search.study, "", search.lease).trials
        progress = Progress(trials(search.trials))
        with Supervisor(cfg, search, storage) as supervisor:
            while supervisor.look():
                progress.show(trials(search.trials))
                time.sleep(LOOK_S)
        progress.show(trials(search.trials))
        study = load_study(cfg, search, storage)
        if not any(trial.state is TrialState.COMPLETE for trial in study.trials):
            raise UserError(f"study={search.study}: no trial has a score. The lines above say why.")
        write_results(study, search.folder)
        progress.say(
            f"best {MONITOR} {study.best_value:.4f} (trial {study.best_trial.number}). To train it again:"
            f" python -m {__package__}.train --config {search.folder / 'best.yaml'}"
        )


if __name__ == "__main__":
    main()
