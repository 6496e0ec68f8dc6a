"""Switching one option changes its seam, files that are its own, and lists that name what there is."""

import pytest

from mlscaffold.catalogue.questions import Answer, Answers
from tests.support.projects import CATALOGUE, Files, rendered

LISTS = {".copier-answers.yml", "AGENTS.md", "README.md", "docs/template.md", "pyproject.toml"}
PACKAGE = "src/my_project"

EXPORT = "export serving/__init__ serving/exported serving/hub runs/terminal tests/test_export.py"
EXPORT += f" {PACKAGE}/task/card.md"
SERVICE = f"{EXPORT} serve task/requests uploads {PACKAGE}/serving/page.html tests/samples.py " + " ".join(
    f"serving/{name}" for name in ("inputs", "limits", "service", "settings")
)
SERVICE += " tests/test_requests.py tests/test_service.py"
SEARCH = "config addresses paths tune task/search_space tests/test_tune.py " + " ".join(
    f"search/{name}" for name in ("__init__", "run", "settings", "study")
)
SEVERAL = "check_world config train tests/test_loading.py tests/test_processes.py " + " ".join(
    f"{room}/{name}"
    for room, names in {
        "distributed": "__init__ parallel pretended processes watch",
        "runs": "best folder progress terminal",
        "training": "engine estimate loading optim run signals speed state",
    }.items()
    for name in names.split()
)
TASK = "images configs/smoke.yaml tests/test_task.py " + " ".join(
    f"task/{name}" for name in ("data", "inputs", "model", "objective", "settings")
)
TUNED = "pretrained tuning config training/optim configs/smoke.yaml " + " ".join(
    [*(f"task/{name}" for name in ("data", "inputs", "model", "settings"))]
    + [f"tests/{name}.py" for name in ("test_pretrained", "test_task", "tiny")]
)
PHASES = "training/checks training/loading training/module training/phases training/step"
GAN = "configs/smoke.yaml tests/test_task.py " + " ".join(
    f"task/{name}" for name in ("data", "inputs", "model", "objective", "settings")
)
PHRASES = " ".join(f"{PACKAGE}/task/phrases.{suffix}" for suffix in ("csv", "LICENSE"))
NO_FOLDS = "splits tests/test_splits.py"
TOKENS = f"{TASK} {NO_FOLDS} task/pictures generation tokens"
MLFLOW, WANDB = "addresses training/loggers training/mlflow_run", "training/loggers training/wandb_run"
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
    ("framework", "ignite"): "training/engine training/step",
    ("task", "image-generation"): f"{TASK} {NO_FOLDS} generated noise predict task/pictures",
    ("task", "language-modeling"): TOKENS,
    ("task", "segmentation"): f"{TASK.removeprefix('images ')} splits digits masks predict task/pictures",
    ("task", "tabular"): f"{TASK} tables task/pictures",
    ("task", "text-classification"): f"{TASK} splits texts {PHRASES}",
    ("generator", "gan"): f"{GAN} config training/optim {PHASES}",
    ("optimizers", "several"): PHASES,
    ("strategy", "ddp"): SEVERAL,
    ("strategy", "fsdp"): f"{SEVERAL} distributed/sharding",
    ("precision", "bf16"): "config",
    ("precision", "fp16"): "config",
    ("pretrained", "transformers"): TUNED,
    ("hpo", "optuna"): SEARCH,
    ("serving", "export"): EXPORT,
    ("serving", "fastapi"): f"{SERVICE} serving/batching tests/test_batching.py",
    ("serving", "litserve"): SERVICE,
    ("loggers", "none"): "training/loggers training/pictures training/meter",
    ("loggers", "mlflow"): MLFLOW,
    ("loggers", "wandb"): WANDB,
    ("loggers", "tensorboard,mlflow"): MLFLOW,
    ("loggers", "tensorboard,wandb"): WANDB,
    ("loggers", "mlflow,wandb"): f"{MLFLOW} {WANDB}",
    ("loggers", "tensorboard,mlflow,wandb"): f"{MLFLOW} {WANDB}",
    ("launch", "slurm"): "launch/.gitignore launch/slurm.sh",
    (
        "monitoring",
        "prometheus",
    ): f"addresses training/loggers training/prometheus tests/test_prometheus.py {DASHBOARD}",
    ("docker", "True"): ".dockerignore Dockerfile compose.yaml",
    ("ci", "github"): ".github/workflows/tests.yml .github/dependabot.yml",
    ("ci", "gitlab"): ".gitlab-ci.yml renovate.json",
}

# What some choices need of others.
BESIDE: dict[tuple[str, str], Answers] = {("generator", "gan"): {"task": "image-generation"}}

DEFAULTS = CATALOGUE.resolve({})
SWITCHES = [
    (question.name, value)
    for question in CATALOGUE.questions
    for value in question.values
    if question.values and value != DEFAULTS[question.name]
]


def files_of(names: str) -> set[str]:
    return {name if "." in name or name == "Dockerfile" else f"{PACKAGE}/{name}.py" for name in names.split()}


def changed(before: Files, after: Files) -> set[str]:
    """Files that only one of the two has, or that differ."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize(("question", "value"), SWITCHES, ids=str)
def test_switching_one_option_changes_its_seam_and_lists_alone(question: str, value: Answer) -> None:
    name = ",".join(value) or "none" if isinstance(value, list) else str(value)
    assert (question, name) in SEAMS, "a new choice: say which files it is"
    beside = BESIDE.get((question, name), {})
    found = changed(rendered(beside).files, rendered({**beside, question: value}).files)
    assert found - LISTS == files_of(SEAMS[question, name])
