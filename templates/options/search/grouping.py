"""How loggers show that the runs of a search belong together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..config import Config


@contextmanager
def grouped(cfg: Config) -> Iterator[None]:
    """Let the runs that begin meanwhile belong to the study of this folder: loggers read it in the environment."""
    #: if "mlflow" in loggers
    from ..runs.folder import lock
    from ..training import mlflow_run

    #: endif
    before = dict(os.environ)
    #: if "mlflow" in loggers
    with lock(cfg.folder).acquire(timeout=-1):  # the first worker makes the study's run
        client, run_id = mlflow_run.open_run(cfg)
        client.set_terminated(run_id)
    os.environ |= {"MLFLOW_TRACKING_URI": client.tracking_uri, "MLFLOW_PARENT_RUN_ID": run_id}
    #: endif
    #: if "wandb" in loggers
    os.environ["WANDB_RUN_GROUP"] = cfg.folder.name
    #: endif
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
