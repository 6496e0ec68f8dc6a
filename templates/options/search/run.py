"""A search: trials that wait are trained one by one, here and wherever else the same command runs."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path

import matplotlib
import optuna
import torch
import yaml
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as pictures

from .. import train
from ..config import Config
#: if strategy != "single"
from ..distributed import processes
#: endif
from ..errors import UserError
from ..runs import folder
from ..runs.files import save_text
from ..training.module import build_objective, load_data
from ..training.signals import SIGNALS
#: if "mlflow" in loggers or "wandb" in loggers
from .grouping import grouped
#: endif
from .settings import Search
from .study import LeftError, Queue, check_space, losses, open_study, origin, resources, storage_errors, suggest

PACKAGE = (__package__ or "").partition(".")[0]
POLL_S = 2.0  # between looks at trials that run elsewhere
PLOTS = {"history": "optimization_history", "importances": "param_importances", "coordinates": "parallel_coordinate"}


class Worker:
    """Trains one trial at a time."""

    #: if strategy != "single"
    @processes.by_first
    #: endif
    def open(self, cfg: Config, search: Search) -> None:
        """Open the study, before anything is written."""
        check_space()
        data = load_data(cfg)
        objective = build_objective(cfg, data)
        name, way = f"val/{objective.monitor}", f"{objective.directions[objective.monitor]}imize"
        about = {"score": f"{name} ({way})", "training data": data.train.fingerprint}
        self.study, self.score = open_study(cfg, search, way, len(data.train), **about), name
        cfg.folder.mkdir(parents=True, exist_ok=True)  # for plots and trials, wherever the storage is

    def work(self) -> None:
        """Train trials until none is left for this worker."""
        while True:
            try:
                self.study.optimize(self.attempt, 1, catch=(Exception,), callbacks=[self.show], gc_after_trial=True)
            except LeftError:
                if not self.waits():
                    return
            except SystemExit:
                self.study.leave(stopped=True)
                print("stopping; the same command continues this study", file=sys.stderr)
                raise
            finally:
                self.study.leave()

    def waits(self) -> bool:
        """Whether trials of other workers may still come to this one; if so, a moment later."""
        left = [trial for trial in self.study.last_attempts() if not trial.state.is_finished()]
        if not left or not (self.study.beat or any(trial.state is TrialState.WAITING for trial in left)):
            return False
        #: if strategy != "single"
        share("wait")
        #: endif
        time.sleep(POLL_S)
        return True

    def attempt(self, trial: optuna.Trial) -> float:
        """Train a trial; return its best score. Raises what ended it before; the study has the reason of an error."""
        assert self.study.taken
        self.trial, (known, run, _) = trial, self.study.taken
        try:
            return self.train(run, origin(known))
        except optuna.TrialPruned:
            raise
        except UpdateFinishedTrialError:  # this worker was thought to be lost
            raise LeftError from None
        except Exception as error:
            (run / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            trial.set_user_attr("reason", reason := f"{kind}{' '.join(str(error).split())}")
            broken = isinstance(error, torch.AcceleratorError)  # the device is lost
            #: if strategy != "single"
            broken = broken or processes.world_size() > 1  # others may be gone, or wait for this one
            #: endif
            if broken:
                self.study.lose(trial.number)
                raise SystemExit(f"error: trial {origin(known)}: {reason}") from error
            raise

    def train(self, run: Path, number: int) -> float:
        cfg = replace(suggest(self.trial, self.study.cfg), out_dir=run, resume="auto")
        self.trial.set_user_attr("config", cfg.plain())
        self.hear()
        self.last = resources(cfg, self.study.num_samples)[1]  # samples at which the trial will end
        print(f"trial {number:4}  trains: {run / 'output.log'}", flush=True)
        #: if strategy != "single"
        share(cfg)
        #: endif
        with (run / "output.log").open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            score = train.run(cfg, self.report)
        self.hear()
        return score

    def hear(self) -> None:
        """Note where the trial is and when; raises if it has ended, as this worker was thought to be lost."""
        self.trial.set_user_attr("heard", [socket.gethostname(), time.time()])

    #: if strategy != "single"
    @processes.by_first
    #: endif
    def report(self, samples: int, score: float) -> None:
        """Report a score to the study; raise in all processes if the trial has to end here."""
        self.hear()
        self.trial.report(score, samples)
        if samples < self.last and self.trial.should_prune():  # at its end, pruning saves nothing
            raise optuna.TrialPruned

    #: if strategy != "single"
    def follow(self) -> None:
        """Train what the first process takes, in any other one."""
        while (order := share(None)) is not None:
            if isinstance(order, Config):
                with suppress(optuna.TrialPruned, UpdateFinishedTrialError):
                    train.run(order, self.report)

    #: endif
    def show(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Print how a trial ended, and how many have."""
        ended = sum(trial.state.is_finished() for trial in self.study.last_attempts())
        print(f"{describe(trial, self.score)}  [{ended}/{self.study.search.trials}]", flush=True)


#: if strategy != "single"
def share(order: Config | str | None) -> Config | str | None:
    """What the first process wants of the others: to train, to wait for its next word, or to end."""
    return processes.first(lambda: order)


#: endif
def describe(trial: FrozenTrial, score: str) -> str:
    """One line about a trial that has ended."""
    value = "" if trial.value is None else f"  {score} {trial.value:.4f}"
    spent = f" after {trial.last_step:,} samples" if trial.state is TrialState.PRUNED else ""
    lost = f"its worker was lost {losses(trial) + 1} times"
    reason = f"  {trial.user_attrs.get('reason', lost)}" if trial.state is TrialState.FAIL else ""
    return f"trial {origin(trial):4}  {trial.state.name.lower()}{spent}{value}{reason}"


def finish(study: Queue, score: str) -> None:
    """Say what has not ended; write `best.yaml` and the plots of the study."""
    trials, place = study.last_attempts(), study.cfg.folder
    if left := [origin(trial) for trial in trials if not trial.state.is_finished()]:
        print(f"not ended: trials {left}. If nobody trains them, --reclaim lets them go on", flush=True)
    complete = any(trial.state is TrialState.COMPLETE for trial in trials)
    if not complete and left:
        return
    if not complete:
        raise UserError(f"study={study.study_name}: no trial has a score. tune prints why each of them failed.")
    best = study.best_trial
    settings = best.user_attrs["config"] | {"out_dir": str(place / "best"), "resume": "never"}
    about = f"# {score} {best.value}, trial {origin(best)} of {study.study_name}\n"
    with folder.lock(place).acquire(timeout=-1):  # others may have come here, too
        save_text(place / "best.yaml", about + yaml.safe_dump(settings, sort_keys=False))
        draw(study)
    launcher = "python"
    #: if strategy != "single"
    if (count := processes.world_size()) > 1:
        launcher = f"torchrun --nproc-per-node {count}"
    #: endif
    print(f"best {score} {best.value:.4f} (trial {origin(best)}): {place}")
    print(f"next: {launcher} -m {PACKAGE}.train --config {shlex.quote(str(place / 'best.yaml'))}", flush=True)


def draw(study: Queue) -> None:
    """Save the plots that there are trials enough for."""
    matplotlib.use("agg")
    for name, plot in PLOTS.items():
        with warnings.catch_warnings(), suppress(RuntimeError, ValueError):
            warnings.simplefilter("ignore")
            figure = getattr(pictures, f"plot_{plot}")(study).figure
            figure.set_size_inches(10, 5)
            figure.savefig(study.cfg.folder / f"{name}.png", dpi=120, bbox_inches="tight")


def start_workers(count: int, threads: int) -> list[subprocess.Popen[bytes]]:
    """Start this command so often, each with its GPU, from the second on."""
    gpus = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))).split(",")
    command = [sys.executable, "-m", f"{PACKAGE}.tune", *sys.argv[1:], "--workers", "0", "--num_threads", str(threads)]
    visible = [os.environ | {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} for slot in range(1, count + 1)]
    return [subprocess.Popen(command, env=environment) for environment in visible]


def run(cfg: Config, search: Search) -> None:
    """Take part in a search until no trial is left, and write its results; see `tune`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for number in SIGNALS:  # while nothing trains; a run that trains saves its state first
        signal.signal(number, lambda number, frame: sys.exit(SIGNALS[number]))
    cfg = replace(cfg, num_threads=cfg.num_threads or max(1, torch.get_num_threads() // max(1, search.workers)))
    (worker := Worker()).open(cfg, search)
    #: if strategy != "single"
    if processes.rank() > 0:
        worker.follow()
        return
    if search.workers > 1 and processes.world_size() > 1:
        raise UserError(f"workers={search.workers}: torchrun starts one worker. Start it again for another one.")
    #: endif
    more = start_workers(search.workers - 1, cfg.num_threads)
    try:
        with storage_errors(search.storage):
            if search.reclaim and search.workers:
                worker.study.reclaim()
            #: if "mlflow" in loggers or "wandb" in loggers
            with grouped(cfg):
                worker.work()
            #: endif
            #: if "mlflow" not in loggers and "wandb" not in loggers
            worker.work()
            #: endif
        for process in more:
            process.wait()
    except SystemExit:
        for process in more:
            process.terminate()
        raise
    finally:
        for process in more:
            process.wait()
    #: if strategy != "single"
    share(None)
    #: endif
    if search.workers:
        finish(worker.study, worker.score)
