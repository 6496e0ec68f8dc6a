"""Train again and again in processes that are forked, as imports take seconds. A script, no test:

    python -m tests.support.forked_runs PACKAGE

Reads jobs from stdin, a line of JSON each. A job has `arguments`, `ranks`, `log` (a file for what they print)
and `harm`: which `signal` the process `rank` gets, and when: at the `at`-th of its steps, saves or validation
batches (`where`), or `after_s` seconds after it was forked. The answer has `codes`, with which the processes
ended, by rank; None is one that hung. And `seconds`, from the signal to the end of the last one.
"""

import gc
import importlib
import itertools
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.matrix.pool import rendezvous, settle

MOST_S = 150  # of a job, on a busy machine


def main() -> None:
    torch.set_num_threads(1)  # a child of a process that has used more threads hangs
    train = importlib.import_module(f"{sys.argv[1]}.train")
    importlib.import_module("torch._dynamo")  # optimizers import it late
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(run(train, json.loads(line))), flush=True)


def run(train: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Fork the processes of a job, and wait for them."""
    came = Path(f"{job['log']}.came")
    came.unlink(missing_ok=True)
    store, environments = rendezvous(job["ranks"]) if job["ranks"] > 1 else (None, [{}])
    children = []
    for rank, environment in enumerate(environments):
        child = os.fork()
        if child == 0:
            be_rank(train, job, rank, environment, came)
        children.append(child)
    harm = job["harm"]
    if "after_s" in harm:
        time.sleep(harm["after_s"])
        os.kill(children[harm["rank"]], getattr(signal, harm["signal"]))  # not reaped yet, so it is that one
        came.touch()
    codes = wait(children)
    del store  # they have ended
    return {"codes": codes, "seconds": time.time() - came.stat().st_mtime if came.exists() else None}


def wait(children: list[int]) -> list[int | None]:
    deadline = time.monotonic() + MOST_S
    codes: dict[int, int | None] = {}
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                codes[child] = None
        time.sleep(0.01)
    return [codes[child] for child in children]


def be_rank(train: Any, job: dict[str, Any], rank: int, environment: dict[str, str], came: Path) -> None:
    """Be one process of a run, and end."""
    code = 1
    try:
        settle(Path.cwd(), Path(job["log"]), Path(job["log"]))
        torch.set_num_threads(1)
        os.environ |= environment
        sys.argv = ["train", *job["arguments"]]
        if "where" in job["harm"] and rank == job["harm"]["rank"]:
            prepare(came, **job["harm"])
        train.main()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def prepare(came: Path, where: str, at: int, **harm: Any) -> None:
    """Let a signal come at a certain place, and note that it came."""
    counter = itertools.count(1)

    def come(*_: object) -> None:
        if next(counter) == at:
            came.touch()
            os.kill(os.getpid(), getattr(signal, harm["signal"]))

    if where == "step":
        register_optimizer_step_post_hook(come)
    elif where == "save":
        sync = os.fsync

        def fsync(fd: Any) -> None:
            come()
            sync(fd)

        os.fsync = fsync
    else:
        nn.modules.module.register_module_forward_hook(
            lambda module, *_: come() if isinstance(module, nn.Linear) and not module.training else None
        )


if __name__ == "__main__":
    main()
