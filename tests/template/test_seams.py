"""Switching one option changes its seam, files that are its own, and lists that name what there is."""

import pytest

from mlscaffold.catalogue import Answer
from tests.support.projects import CATALOGUE, Files, rendered

LISTS = {".copier-answers.yml", "README.md", "pyproject.toml"}
PACKAGE = "src/my_project"

SERVICE = "export serve tests/test_export.py tests/test_service.py tests/test_monitoring.py " + " ".join(
    f"{PACKAGE}/serving/{name}.py"
    for name in ("__init__", "inputs", "limits", "monitoring", "service", "settings")
)
SERVICE += f" {PACKAGE}/serving/page.html"
DASHBOARD = " ".join(
    f"monitoring/{name}"
    for name in (
        "prometheus.yml",
        "grafana/dashboards/training.json",
        "grafana/provisioning/dashboards/files.yml",
        "grafana/provisioning/datasources/prometheus.yml",
    )
)

# What a project with all defaults has otherwise, for each choice that is none of them: module names stand for
# files of the package.
SEAMS = {
    ("framework", "ignite"): "engine metrics parallel loggers checkpoint train",
    ("strategy", "ddp"): "parallel processes check_world tests/test_processes.py",
    ("strategy", "fsdp"): "parallel processes check_world sharding tests/test_processes.py",
    ("precision", "bf16"): "config",
    ("precision", "fp16"): "config",
    (
        "hpo",
        "optuna",
    ): "addresses grouping leases search_space study supervisor tune worker tests/test_tune.py",
    ("serving", "export"): "export tests/test_export.py",
    ("serving", "fastapi"): f"{SERVICE} {PACKAGE}/serving/batching.py tests/test_batching.py",
    ("serving", "litserve"): SERVICE,
    ("loggers", "none"): "loggers pictures meter",
    ("loggers", "mlflow"): "addresses loggers mlflow_run",
    ("loggers", "wandb"): "loggers wandb_run",
    ("loggers", "tensorboard,mlflow"): "addresses loggers mlflow_run",
    ("loggers", "tensorboard,wandb"): "loggers wandb_run",
    ("loggers", "mlflow,wandb"): "addresses loggers mlflow_run wandb_run",
    ("loggers", "tensorboard,mlflow,wandb"): "addresses loggers mlflow_run wandb_run",
    ("monitoring", "prometheus"): f"addresses loggers prometheus tests/test_prometheus.py {DASHBOARD}",
    ("docker", "True"): ".dockerignore Dockerfile compose.yaml",
    ("ci", "github"): ".github/workflows/tests.yml .github/dependabot.yml",
    ("ci", "gitlab"): ".gitlab-ci.yml renovate.json",
}

SWITCHES = [
    (question.name, value)
    for question in CATALOGUE.questions
    for value in question.values
    if question.values and value != question.default
]


def files_of(names: str) -> set[str]:
    return {
        name if {".", "/"} & {*name} or name == "Dockerfile" else f"{PACKAGE}/{name}.py"
        for name in names.split()
    }


def changed(before: Files, after: Files) -> set[str]:
    """Files that only one of the two has, or that differ."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize(("question", "value"), SWITCHES, ids=str)
def test_switching_one_option_changes_its_seam_and_lists_alone(question: str, value: Answer) -> None:
    name = ",".join(value) or "none" if isinstance(value, list) else str(value)
    assert (question, name) in SEAMS, "a new choice: say which files it is"
    found = changed(rendered({}).files, rendered({question: value}).files)
    assert found - LISTS == files_of(SEAMS[question, name])
