"""The suite over a task's interface, which every project has, finds a fault in all that it asks of a task."""

from dataclasses import dataclass

import pytest

from tests.support.projects import Project, rendered, write


@dataclass(frozen=True)
class Fault:
    """A mistake in a file of `task/`, and the test that finds it."""

    file: str
    right: str
    wrong: str
    found_by: str


NET = 'Net(cfg, about["shape"][0], len(about["classes"]))'

FAULTS = [
    Fault("data", '"label": self.labels[chosen]', '"label": self.labels[chosen][1:]', "as_many_rows"),
    Fault("data", "uniform(seeds, 2)", "uniform(seeds, 2).flip(0)", "sample_is_the_same"),
    Fault("data", "uniform(seeds, 2)", "torch.rand(len(seeds), 2)", "nothing_but_the_seeds"),
    Fault(
        "data", "image if seeds is None", "image + torch.rand(1) if seeds is None", "nothing_but_the_seeds"
    ),
    Fault("data", "self.nbytes = pixels.nbytes", "self.nbytes = lambda: pixels.nbytes", "another_process"),
    Fault("data", "hashlib.sha256(pixels.numpy().tobytes()).hexdigest()", "str(id(self))", "fingerprint"),
    Fault("data", '"shape": [1, 8, 8]', '"shape": (1, 8, 8)', "about_is_plain_json"),
    Fault("data", '"shape": [1, 8, 8]', '"shape": torch.tensor([1, 8, 8])', "about_is_plain_json"),
    Fault(
        "model", 'len(about["classes"]))', 'len(about["classes"])).requires_grad_(not init)', "differentiated"
    ),
    Fault(
        "model",
        f"return {NET}",
        f"net = {NET}\n    net.dropout = nn.Identity() if init else nn.Softmax(1)\n    return net",
        "without_weights",
    ),
    Fault("model", "return [*net", "return [nn.Identity(), *net", "blocks_are_parts"),
    Fault("objective", 'reduction="sum", label', 'reduction="mean", label', "sum_of_those_of_its_parts"),
    Fault(
        "objective",
        "return total, torch.tensor(len(logits))",
        "return total, torch.tensor(1)",
        "sum_of_those",
    ),
    Fault("objective", "return total, torch.tensor(len(logits))", "return total, len(logits)", "float32_sum"),
    Fault("objective", "return total,", "return total.double(),", "float32_sum"),
    Fault("objective", "return total,", "return total.detach(),", "can_be_differentiated"),
    Fault("objective", "return total,", "return total.detach() + 0 * logits.sum(),", "can_be_differentiated"),
    Fault("objective", 'reduction="sum").double()', 'reduction="mean").double()', "sum_over_its_parts"),
    Fault("objective", "counts.double()}", "counts.float()}", "sum_over_its_parts"),
    Fault("objective", ', "f1": f1.item()}', "}", "scores_have_all"),
    Fault("objective", "f1.item()}", "f1}", "scores_have_all"),
    Fault("settings", 'monitor: str = "accuracy"', 'monitor: str = "acc"', "scores_have_all"),
    Fault("inputs", "pixels / images.WHITE", "pixels.float()", "computes_what_is_measured"),
    Fault("inputs", "softmax(dim=1)", "softmax(dim=0)", "answers_each_input"),
    Fault("inputs", "noise.byte()", "noise", "inputs_of_one_kind"),
    Fault("inputs", '"index": i', '"index": np.int64(i)', "plain_json"),
    Fault(
        "data",
        '"label": self.labels[chosen]',
        '"label": (seeds if seeds is not None else chosen) % 10',
        "short_run",
    ),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(write(rendered({}), tmp_path_factory.mktemp("task")), "my_project")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.file}: {fault.wrong}")
def test_a_fault_in_a_task_is_found(fault: Fault, project: Project) -> None:
    path = project.folder / f"src/my_project/task/{fault.file}.py"
    right = path.read_text()
    assert fault.right in right
    path.write_text(right.replace(fault.right, fault.wrong))
    try:
        command = (
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/test_interface.py",
            "-k",
            fault.found_by,
        )
        done = project.start_fork(*command)
    finally:
        path.write_text(right)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "\nFAILED " in done.stdout, done.stdout
