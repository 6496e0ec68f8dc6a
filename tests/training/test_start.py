"""What stands between a command and its first answer, or its first step."""

import os
from pathlib import Path

import pytest

from tests.conftest import Say
from tests.support.projects import FRAMEWORKS, Project, rendered, write

pytestmark = pytest.mark.cold  # forks have imported everything

IMPORTS = {
    "lightning": "import pytorch_lightning, torchmetrics",
    "ignite": "import ignite.distributed, ignite.engine, ignite.handlers, ignite.metrics",
}
ENDS = """
import runpy, sys
command, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(command, run_name="__main__")
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""
FIRST_STEP = """
import os, sys, time
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
{imports}
imported = time.process_time()

def tell(*_):
    print(imported, time.process_time() - imported, flush=True)
    os._exit(0)

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
def test_the_first_step_comes_soon_after_the_import_of_the_framework(
    framework: str, tmp_path: Path, say: Say
) -> None:
    """The seconds are printed, as they are the machine's."""
    project = Project(write(rendered({"framework": framework, "loggers": []}), tmp_path), "my_project")
    said = project.run("-c", FIRST_STEP.format(imports=IMPORTS[framework]))
    imported, first = map(float, said.splitlines()[-1].split())
    say(f"{framework}: first step {first:.2f} s of CPU after imports, which took {imported:.2f} s")
