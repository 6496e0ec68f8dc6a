"""What stands between a command and its first answer, or its first step."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Say
from tests.support.projects import FRAMEWORKS, Project, rendered, write

pytestmark = pytest.mark.cold  # forks have imported everything

ENDS = """
import runpy, sys
command, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(command, run_name="__main__")
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""
FIRST_STEP = """
import gc, json, os, sys, time
from my_project import trained
predicts, looked = [*sys.modules], []
gc.callbacks.append(lambda phase, facts: looked.append(facts["generation"]) if phase == "start" else None)

def tell(*_):
    print(json.dumps([predicts, [*sys.modules], looked.count(2), time.process_time()]), flush=True)
    os._exit(0)

from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(tell)
from my_project import train
train.main()
"""


def cpu_seconds() -> float:
    """What all processes that these tests started have computed."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_help_and_a_wrong_setting_answer_without_torch(framework: str, tmp_path: Path, say: Say) -> None:
    folder = write(
        rendered({"framework": framework, "strategy": "ddp", "loggers": [], "hpo": "optuna"}), tmp_path
    )
    project = Project(folder, "my_project")
    for command in ("train", "evaluate", "predict", "tune", "check_world"):
        for argument in ("--help", "--print_config", "--optim.learning_rate=1", "--epochs=many"):
            begin = cpu_seconds()
            done = project.start("-c", ENDS, f"my_project.{command}", argument)
            say(f"{framework} {command} {argument}: {cpu_seconds() - begin:.2f} s of CPU")
            assert done.stdout.splitlines()[-1] == f"{2 * ('=' in argument)} False", done.stderr
            assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_first_step_and_a_prediction_wait_for_no_library_that_others_need(
    framework: str, tmp_path: Path, say: Say
) -> None:
    """The seconds are printed, as they are the machine's; `python -m benchmarks start` compares them."""
    project = Project(write(rendered({"framework": framework}), tmp_path), "my_project")
    said = project.run("-c", FIRST_STEP)
    predicts, trains, looked, seconds = json.loads(said.splitlines()[-1])
    say(f"{framework}: {seconds:.2f} s of CPU to the first step, {looked} looks at all objects for garbage")
    assert not {"sklearn", "pandas", "matplotlib", "ignite", "pytorch_lightning"} & {*predicts}
    assert framework == "lightning" or "matplotlib" not in trains  # torchmetrics imports it
    assert looked <= 2
