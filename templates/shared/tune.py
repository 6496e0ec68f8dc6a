"""Search for settings with Optuna: `python -m <package>.tune [--trials N] [--workers W] [...]`.

What is varied is in `search_space.py`. The same command goes on with a study, also on another machine that
reaches its `--storage`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import torch
import yaml
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization.matplotlib import (
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
)

from .config import Config, UserError, plain_errors
from .leases import MOST_STARTS, Leases
from .objective import MONITOR
from .storage import replacing
from .study import Search, create_study, load_study, read_command
from .worker import NAME

LOOK_S = 0.5  # between looks at the workers and their trials
PLOTS: dict[str, Callable[[optuna.Study], Any]] = {
    "history": plot_optimization_history,
    "importances": plot_param_importances,
    "coordinates": plot_parallel_coordinate,
}


class Workers:
    """The processes that run trials, each started again when it is lost, and all ended with this one."""

    def __init__(self, cfg: Config, search: Search, storage: BaseStorage) -> None:
        self.cfg, self.search, self.storage = cfg, search, storage
        self.started, self.idle = Counter[int](), Counter[int]()  # by slot; ends without a trial
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Workers":
        trials = Leases(self.storage, self.search.study, "", self.search.lease).trials(self.search.trials)
        todo = sum(not trial.state.is_finished() for trial in trials)
        for slot in range(min(self.search.workers, todo)):
            self.start(slot)
        return self

    def start(self, slot: int) -> None:
        """Start a worker with its share of the machine; what it prints goes to `worker-0.log`."""
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        launcher = [*launcher, str(self.search.processes)] if self.search.processes > 1 else []
        command = [sys.executable, *launcher, "-m", f"{__package__}.worker", *sys.argv[1:]]
        if not self.cfg.num_threads:
            share = torch.get_num_threads() // (self.search.workers * self.search.processes)
            command += ["--num_threads", str(max(1, share))]
        self.started[slot] += 1
        with (self.search.folder / f"worker-{slot}.log").open("ab") as log:
            self.running[slot] = subprocess.Popen(
                command,
                env=os.environ | {NAME: self.name(slot)} | devices(slot, self.search.processes),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us alone
            )

    def name(self, slot: int) -> str:
        return f"{socket.gethostname()}-{os.getpid()}-{slot}.{self.started[slot]}"

    def look(self) -> bool:
        """Replace workers that were lost; whether any is at work."""
        for slot, worker in list(self.running.items()):
            if worker.poll() is None:
                continue
            del self.running[slot]
            worker.communicate()  # closes its stdin: if the launcher was lost, what it launched ends too
            if worker.returncode:
                self.idle[slot] += not self.give_back(self.name(slot))
                if self.idle[slot] == MOST_STARTS:
                    log = self.search.folder / f"worker-{slot}.log"
                    raise UserError(f"a worker ended {MOST_STARTS} times without a trial. {log} says why.")
                self.start(slot)
        return bool(self.running)

    def give_back(self, name: str) -> bool:
        """Free the trial that a lost worker was at; whether it had ever begun one."""
        lost = Leases(self.storage, self.search.study, name, self.search.lease)
        own = [t for t in lost.trials(self.search.trials) if lost.owns(t)]
        for trial in own:
            lost.release(trial.number)
        return bool(own)

    def __exit__(self, *error: object) -> None:
        """Let running trials end with their epoch; they go on when the study does."""
        for worker in self.running.values():
            worker.send_signal(signal.SIGTERM)
        for worker in self.running.values():
            worker.communicate()


class Progress:
    """A line for each trial that ends, and on a terminal a bar below them."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        self.told = {trial.number for trial in trials if trial.state.is_finished()}
        if self.told:
            print(f"{len(self.told)} of {len(trials)} trials have ended before", flush=True)

    def show(self, trials: list[FrozenTrial]) -> None:
        erase = "\r\033[K" if sys.stderr.isatty() else ""
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self.told:
                self.told.add(trial.number)
                print(f"{erase}{told(trial)}", flush=True)
        if erase:
            done = 30 * len(self.told) // len(trials)
            running = sum(trial.state is TrialState.RUNNING for trial in trials)
            bar = f"[{'#' * done:-<30}] {len(self.told)}/{len(trials)} trials, {running} running"
            print(f"{erase}{bar}", end="", file=sys.stderr, flush=True)


def told(trial: FrozenTrial) -> str:
    """A trial that has ended, in a line."""
    value = "" if trial.value is None else f"  {MONITOR} {trial.value:.4f}"
    epochs = f" after epoch {trial.last_step}" if trial.state is TrialState.PRUNED else ""
    reason = f"  {trial.user_attrs.get('reason', '')}" if trial.state is TrialState.FAIL else ""
    return f"trial {trial.number:4}  {trial.state.name.lower()}{epochs}{value}{reason}"


def devices(slot: int, processes: int) -> dict[str, str]:
    """The GPUs of a worker, where there are some; workers share them where they are too few."""
    count = torch.cuda.device_count()
    if count == 0:
        return {}
    if processes > count:
        raise UserError(
            f"processes={processes}: this machine has {count} GPU(s), and each process needs one."
        )
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    chosen = [names.split(",")[(slot * processes + i) % count] for i in range(processes)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}


def write_results(study: optuna.Study, folder: Path) -> None:
    """`best.yaml`, and pictures of how the search went."""
    best = study.best_trial
    settings = best.user_attrs["config"] | {"out_dir": str(folder / "best"), "resume": "never"}
    with replacing(folder / "best.yaml") as temporary:
        about = f"# {MONITOR} {best.value}, trial {best.number} of {study.study_name}\n"
        temporary.write_text(about + yaml.safe_dump(settings, sort_keys=False))
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
        search.folder.mkdir(parents=True, exist_ok=True)
        trials = Leases(storage, search.study, "", search.lease).trials
        progress = Progress(trials(search.trials))
        try:
            with Workers(cfg, search, storage) as workers:
                while workers.look():
                    progress.show(trials(search.trials))
                    time.sleep(LOOK_S)
        except KeyboardInterrupt:
            raise SystemExit(f"stopped; the same command goes on with study {search.study}") from None
        finally:
            progress.show(trials(search.trials))
        study = load_study(cfg, search, storage)
        if not any(trial.state is TrialState.COMPLETE for trial in study.trials):
            raise UserError(f"study={search.study}: no trial has a score. The lines above say why.")
        write_results(study, search.folder)
        print(
            f"best {MONITOR} {study.best_value:.4f} (trial {study.best_trial.number}). To train it again:"
            f" python -m {__package__}.train --config {search.folder / 'best.yaml'}"
        )


if __name__ == "__main__":
    main()
