"""The run in MLflow: its store, and how a resumed run continues in it."""

import logging
import os
from urllib.parse import unquote

from mlflow import MlflowClient, MlflowException
from mlflow.entities import Param

from .. import addresses
from ..config import Config
from ..errors import UserError


def open_run(cfg: Config) -> tuple[MlflowClient, str]:
    """The store and the run's id in it; a new run gets the hyperparameters.

    The store is the run folder's own `mlflow.db`, unless MLFLOW_TRACKING_URI names another.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it logs every table that it creates
    uri, artifacts = _server(), None
    if not uri:
        uri = f"sqlite:///{(cfg.folder / 'mlflow.db').as_posix()}"
        artifacts = (cfg.folder / "mlruns").absolute().as_uri()
    try:
        client = MlflowClient(uri)
        note = cfg.folder / "mlflow-run-id.txt"
        run_id = note.read_text().strip() if note.exists() else ""
        if not run_id or not _reopen(client, run_id):
            run_id = _create(client, cfg, artifacts)
            note.write_text(f"{run_id}\n")
    except Exception as error:  # of MLflow, SQLAlchemy, a driver or the file system
        reason = addresses.hide(" ".join(str(error).split()), uri)
        raise UserError(f"MLFLOW_TRACKING_URI={addresses.show(uri)}: it cannot be used ({reason}).") from None
    return client, run_id


def _server() -> str:
    """MLFLOW_TRACKING_URI; a login in it moves to variables, which MLflow shows in no link and no error."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    scheme, _, rest = uri.partition("://")
    login, at, host = rest.rpartition("@")
    if scheme not in ("http", "https") or not (at or addresses.SECRET.search(uri)):
        return uri
    name, _, password = login.partition(":")
    if not password or addresses.SECRET.search(host):
        raise UserError(f"MLFLOW_TRACKING_URI={addresses.show(uri)}: give a token in MLFLOW_TRACKING_TOKEN.")
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(name), unquote(password)
    os.environ["MLFLOW_TRACKING_URI"] = uri = f"{scheme}://{host}"
    return uri


def ending(error: object) -> str:
    """MLflow's status for a run, by the type of the exception that ended it; pruned trials are no failures."""
    return "FINISHED" if getattr(error, "__name__", "TrialPruned") == "TrialPruned" else "FAILED"


def _reopen(client: MlflowClient, run_id: str) -> bool:
    """Mark a run as running again. Its parameters stay those of its first start: MLflow does not change them."""
    try:
        client.update_run(run_id, status="RUNNING")
    except MlflowException:  # another store than at the first start, or the run was deleted
        return False
    return True


def _create(client: MlflowClient, cfg: Config, artifacts: str | None) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or (__package__ or "").partition(".")[0]
    found = client.get_experiment_by_name(name)
    experiment_id = found.experiment_id if found else client.create_experiment(name, artifacts)
    parent = os.environ.get("MLFLOW_PARENT_RUN_ID")
    tags = {"mlflow.parentRunId": parent} if parent else {}
    run_id: str = client.create_run(experiment_id, run_name=cfg.folder.name, tags=tags).info.run_id
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in cfg.flat().items()])
    return run_id
