"""How loggers show that the runs of a search belong together."""

from . import (
    config,
    #: if "mlflow" in loggers
    mlflow_run,
    #: endif
)


def group_runs(study: config.Config) -> dict[str, str]:
    """The environment of workers whose runs belong to the study in `out_dir`."""
    environment: dict[str, str] = {}
    #: if "mlflow" in loggers
    client, run_id = mlflow_run.open_run(study)
    environment |= {"MLFLOW_TRACKING_URI": client.tracking_uri, "MLFLOW_PARENT_RUN_ID": run_id}
    client.set_terminated(run_id)
    #: endif
    #: if "wandb" in loggers
    environment["WANDB_RUN_GROUP"] = study.out_dir.name
    #: endif
    return environment
