"""Models of transformers that projects train further, and what other programs get of them."""

import json
from pathlib import Path

import pytest
import torch

from mlscaffold.catalogue.questions import Answers
from tests.support.projects import SOAK, Project, rendered, write
from tests.support.releases import ROOT

SUPPORT = ROOT / "tests/support"
AUTO = {
    "text-classification": "AutoModelForSequenceClassification",
    "language-modeling": "AutoModelForCausalLM",
}
TEXTS = ("the quick brown fox", "Größe")
SHORT = (
    "--config configs/smoke.yaml --num_threads 1 --epochs 50 --max_steps 8 --save_every 4 --model.lora_rank 4"
)
TASKS = ["text-classification", "language-modeling", "image-classification"]
ALL = [
    ("text-classification", "ignite", "fsdp", "fp32"),
    ("language-modeling", "lightning", "ddp", "fp16"),
    ("text-classification", "lightning", "fsdp", "bf16"),
    ("language-modeling", "ignite", "ddp", "fp32"),
    ("text-classification", "lightning", "ddp", "fp16"),
    ("language-modeling", "ignite", "fsdp", "bf16"),
]  # the first two meet each task, framework and strategy; `make soak` runs all


def new(folder: Path, **answers: object) -> Project:
    chosen: Answers = {"pretrained": "transformers", "loggers": [], **answers}  # type: ignore[dict-item]
    return Project(write(rendered(chosen), folder), "my_project")


@pytest.mark.parametrize(
    ("task", "framework", "strategy", "precision"),
    [pytest.param(*one, marks=pytest.mark.row(32, one[1])) for one in (ALL if SOAK else ALL[:2])],
)
def test_adapters_of_two_processes_resume_exactly_and_plain_transformers_gives_the_logits_of_the_run(
    task: str, framework: str, strategy: str, precision: str, tmp_path: Path
) -> None:
    project = new(tmp_path / "project", task=task, framework=framework, strategy=strategy, serving="export")
    project.run_fork(SUPPORT / "tiny_model.py", tmp_path / "tiny")
    train = ["-m", "my_project.train", *SHORT.split(), "--precision", precision]
    begun = [*train, "--model.pretrained", str(tmp_path / "tiny")]
    project.run_fork(*begun, "--out_dir", "whole", processes=2)
    halfway = project.folder / "whole/checkpoints/step-00000004.pt"
    project.run_fork(*begun, "--out_dir", "resumed", "--resume", halfway, processes=2)

    ends = [project.folder / run / "checkpoints/step-00000008.pt" for run in ("whole", "resumed")]
    whole, resumed = (torch.load(path, weights_only=True) for path in ends)
    assert whole["module"].keys() == resumed["module"].keys()
    for name, weight in whole["module"].items():
        assert torch.equal(weight, resumed["module"][name]), name
    moved = [name for name, weight in whole["module"].items() if "lora_B" in name and weight.any()]
    assert moved
    assert not any("base_layer" in name for name in whole["module"])

    project.run_fork("-m", "my_project.export", "--run", "whole", "--format", "onnx")
    saved = project.folder / "whole/export/transformers"
    plain = json.loads(project.run_fork(SUPPORT / "plain_transformers.py", AUTO[task], saved, *TEXTS))
    asked = (SUPPORT / "tuned_logits.py", "my_project", "whole", json.dumps(plain["tokens"]))
    own = json.loads(project.run_fork(*asked))
    for theirs, ours, answer in zip(plain["logits"], own["network"], own["onnx"], strict=True):
        expected = torch.tensor(ours)
        logits = torch.tensor(theirs)[..., : expected.shape[-1]]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        exported = torch.tensor(answer)
        wanted = expected if task == "language-modeling" else expected.softmax(0)
        torch.testing.assert_close(exported, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_the_tests_of_a_new_project_for_pretrained_models_pass(task: str, tmp_path: Path) -> None:
    """Those that another project has, too, run in `make soak` only."""
    project = new(tmp_path, task=task, framework="ignite", serving="export")
    own = ["tests/test_pretrained.py", "tests/test_task.py"]
    said = project.run_fork("-m", "pytest", "-q", *([] if SOAK else own))
    assert " passed" in said
    assert "skipped" not in said


@pytest.mark.cold
def test_help_and_a_hub_id_without_internet_answer_in_a_line_and_import_no_more_than_they_need(
    tmp_path: Path,
) -> None:
    project = new(tmp_path, task="text-classification", framework="lightning")
    asked = project.start("-X", "importtime", "-m", "my_project.train", "--help")
    assert "--model.lora_rank" in asked.stdout
    assert not {"torch", "transformers"} & {
        line.rpartition("|")[2].strip() for line in asked.stderr.splitlines()
    }
    train = ("-m", "my_project.train", "--model.pretrained", "no-owner/no-model")
    done = project.start(*train, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"))
    assert done.returncode == 1
    *_, said = done.stderr.strip().splitlines()
    assert said.startswith("error: model.pretrained=no-owner/no-model: ")
    assert said.endswith("without internet, one that was downloaded.")
    assert "Traceback" not in done.stderr
    assert not (project.folder / "runs").exists()


def test_a_project_without_pretrained_models_has_no_trace_of_them() -> None:
    for task in TASKS:
        for name, text in rendered({"task": task, "serving": "fastapi"}).files.items():
            own = text.replace("pretrained: none", "") if name == ".copier-answers.yml" else text
            assert not {"pretrained", "transformers", "peft", "lora"} & set(own.lower().split()), name
