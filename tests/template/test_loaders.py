"""Every place of a project that could run what a file or a network sends is known; docs/others.md tells."""

import ast
import re

from mlscaffold.catalogue.questions import Answers
from tests.support.projects import FRAMEWORKS, rendered

# Calls that unpickle, or else run what they read, and the modules that may make them.
KNOWN = {
    "torch.load": {"files", "module", "report", "trained"},
    "torch.export.load": {"exported"},
    "torch.jit.load": {"exported"},
    "dist.broadcast_object_list": {"processes", "worker"},
    "np.load": {"inputs"},
    "yaml.load": {"config"},
    "JournalRedisBackend": {"study"},
}
RUNS_CODE = re.compile(
    r"(^|\.)(load|loads|unsafe_load|full_load|load_all|Unpickler|\w+_object_list|JournalRedisBackend)$|^(eval|exec)$"
)
HARMLESS = {"json.loads"}


def calls(source: str) -> list[tuple[str, ast.Call]]:
    return [
        (ast.unparse(node.func), node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
    ]


def test_what_could_run_what_it_reads_is_called_in_known_places_alone() -> None:
    met = set()
    for framework in FRAMEWORKS:
        for strategy, serving in (("fsdp", "fastapi"), ("ddp", "litserve")):
            answers: Answers = {
                "framework": framework,
                "strategy": strategy,
                "serving": serving,
                "hpo": "optuna",
            }
            answers = {**answers, "monitoring": "prometheus", "loggers": ["tensorboard", "mlflow", "wandb"]}
            for name, source in rendered(answers).sources.items():
                module = name.rpartition("/")[2].removesuffix(".py")
                assert not re.search(
                    r"^from pickle|^(import|from) (dill|joblib|cloudpickle|marshal|shelve)", source, re.M
                )
                for call, node in calls(source):
                    if RUNS_CODE.search(call) and call not in HARMLESS and not call.startswith("self."):
                        assert module in KNOWN.get(call, set()), f"{call} in {name}"
                        met.add(call)
                        check(call, node)
    assert met == set(KNOWN) - {"JournalRedisBackend"}, "of that class a project only makes one of its own"


def check(call: str, node: ast.Call) -> None:
    """The arguments that make a loader one of data."""
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if call == "torch.load":
        assert given["weights_only"] == "True"
    if call == "np.load":
        assert given["allow_pickle"] == "False"
    if call == "yaml.load":
        assert ast.unparse(node.args[1]) == "PlainLoader"
