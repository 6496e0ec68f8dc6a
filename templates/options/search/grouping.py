"""How loggers show that the runs of a search belong together."""

from dataclasses import replace
from pathlib import Path

from ..config import Config


def group_runs(cfg: Config, folder: Path) -> dict[str, str]:
    """The environment variables of workers whose runs belong to the study in this folder."""
    study, environment = replace(cfg, out_dir=folder), dict[str, str]()
    #: if "mlflow" in loggers
    from ..training import mlflow_run

    client, run_id = mlflow_run.open_run(study)
    environment |= {"MLFLOW_TRACKING_URI": client.tracking_uri, "MLFLOW_PARENT_RUN_ID": run_id}
    client.set_terminated(run_id)
    #: endif
    #: if "wandb" in loggers
    environment["WANDB_RUN_GROUP"] = study.folder.name
    #: endif
    return environment
