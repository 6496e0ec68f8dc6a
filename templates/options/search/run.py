"""One search, from its settings to the best ones."""

import shlex
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

from ..config import Config
from ..errors import UserError
from ..runs.files import save_text
from ..training.module import build_objective, load_data
from .leases import Leases
from .settings import Search
from .study import check_space, create_study, load_study
from .supervisor import Supervisor

LOOK_S = 0.5  # between checks of the workers and their trials
PLOTS: dict[str, Callable[[optuna.Study], Any]] = {
    "history": plot_optimization_history,
    "importances": plot_param_importances,
    "coordinates": plot_parallel_coordinate,
}


class Display:
    """Prints a line for each trial that ends, and on a terminal a bar below them."""

    def __init__(self, trials: list[FrozenTrial], score: str) -> None:
        self.score = score  # its name
        self.shown = {trial.number for trial in trials if trial.state.is_finished()}
        self.terminal = sys.stderr.isatty()
        if self.shown:
            self.say(f"{len(self.shown)} of {len(trials)} trials had ended before")

    def say(self, line: str) -> None:
        self.draw("")
        print(line, flush=True)

    def draw(self, bar: str) -> None:
        if self.terminal:
            print(f"\r\033[K{bar}", end="", file=sys.stderr, flush=True)

    def show(self, trials: list[FrozenTrial]) -> None:
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self.shown:
                self.shown.add(trial.number)
                self.say(describe(trial, self.score))
        done = 30 * len(self.shown) // len(trials)
        running = sum(trial.state is TrialState.RUNNING for trial in trials)
        self.draw(f"[{'#' * done:-<30}] {len(self.shown)}/{len(trials)} trials, {running} running")


def describe(trial: FrozenTrial, score: str) -> str:
    """One line about a trial that has ended."""
    value = "" if trial.value is None else f"  {score} {trial.value:.4f}"
    spent = f" after {trial.last_step:,} samples" if trial.state is TrialState.PRUNED else ""
    reason = f"  {trial.user_attrs.get('reason', '')}" if trial.state is TrialState.FAIL else ""
    return f"trial {trial.number:4}  {trial.state.name.lower()}{spent}{value}{reason}"


def write_results(study: optuna.Study, folder: Path, score: str) -> None:
    """Write `best.yaml` and the plots of the study."""
    best = study.best_trial
    settings = best.user_attrs["config"] | {"out_dir": str(folder / "best"), "resume": "never"}
    about = f"# {score} {best.value}, trial {best.number} of {study.study_name}\n"
    save_text(folder / "best.yaml", about + yaml.safe_dump(settings, sort_keys=False))
    matplotlib.use("agg")
    for name, plot in PLOTS.items():
        with warnings.catch_warnings(), suppress(RuntimeError, ValueError):  # too few trials to plot
            warnings.simplefilter("ignore")
            figure = plot(study).figure
            figure.set_size_inches(10, 5)
            figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")


def run(cfg: Config, search: Search) -> None:
    """Run a search until all of its trials have ended, and write its results; see `tune`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_space()
    data = load_data(cfg)
    objective = build_objective(cfg, data)
    storage = create_study(cfg, search, data, objective)
    search.folder.mkdir(parents=True, exist_ok=True)  # for plots and trials, wherever the storage is
    trials, score = Leases(storage, search.study, "", search.lease).trials, f"val/{objective.monitor}"
    display = Display(trials(search.trials), score)
    with Supervisor(cfg, search, storage) as supervisor:
        while supervisor.look():
            display.show(trials(search.trials))
            time.sleep(LOOK_S)
    display.show(trials(search.trials))
    study = load_study(cfg, search, storage)
    if not any(trial.state is TrialState.COMPLETE for trial in study.trials):
        raise UserError(f"study={search.study}: no trial has a score. The lines above say why.")
    write_results(study, search.folder, score)
    package = (__package__ or "").partition(".")[0]
    display.say(f"best {score} {study.best_value:.4f} (trial {study.best_trial.number}): {search.folder}")
    launcher = f"torchrun --nproc-per-node {search.processes}" if search.processes > 1 else "python"
    display.say(f"next: {launcher} -m {package}.train --config {shlex.quote(str(search.folder / 'best.yaml'))}")
