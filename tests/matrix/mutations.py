"""Mistakes of one line that the matrix has to see, each with exactly the combinations in which it shows."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from mlscaffold.catalogue import Answer, Answers
from tests.support.releases import ROOT

Bites = Callable[[Answers], bool]

PLAIN: Answers = {"precision": "fp32", "loggers": [], "hpo": "none", "serving": "none"}


def among(**axes: Sequence[Answer]) -> list[Answers]:
    """All combinations of these answers, with nothing else chosen."""
    return [{**PLAIN, **dict(zip(axes, values, strict=True))} for values in product(*axes.values())]


FRAMEWORKS = ("lightning", "ignite")
TRAINING = among(framework=FRAMEWORKS, strategy=("single", "ddp"), precision=("fp32", "fp16"))
TOGETHER = among(framework=FRAMEWORKS, strategy=("single", "ddp", "fsdp"))
ALONE = among(framework=FRAMEWORKS, strategy=("single",))
LOGGING = among(
    framework=FRAMEWORKS, strategy=("single",), loggers=([], ["tensorboard"], ["mlflow"], ["wandb"])
)
SERVING = among(framework=FRAMEWORKS, strategy=("single",), serving=("none", "export"))


@dataclass(frozen=True)
class Mutation:
    """A part of a line in a template, what stands there instead, and where that has to fail."""

    name: str
    file: str  # below templates/
    old: str
    new: str
    over: Sequence[Answers]  # combinations that are tried
    bites: Bites
    slow: bool = False  # over a minute
    slow_disk_s: float = 0.02  # that the first of several processes waits for each file

    def apply(self, folder: Path) -> Path:
        """Copy the template, with the mistake; return where it is."""
        shutil.copy(ROOT / "copier.yml", folder)
        shutil.copytree(ROOT / "templates", folder / "templates")
        path = folder / "templates" / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} is not once in {self.file}; record it anew")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return folder


def has(**answers: Answer) -> Bites:
    return lambda combination: all(combination[name] == answer for name, answer in answers.items())


MUTATIONS = (
    Mutation(
        "Ignite does not save the gradient scaler",
        "ignite/train.py",
        ', "scaler": task.scaler',
        "",
        TRAINING,
        has(framework="ignite", precision="fp16"),
    ),
    Mutation(
        "Lightning does not save the gradient scaler",
        "lightning/checkpoint.py",
        "storage.save_checkpoint(Path(path), checkpoint,",
        'checkpoint.pop("MixedPrecision", 0); storage.save_checkpoint(Path(path), checkpoint,',
        TRAINING,
        has(framework="lightning", precision="fp16"),
    ),
    Mutation(
        "a run that goes on begins with its first epoch",
        "shared/progress.py",
        'saved["steps"], saved["epoch"]',
        'saved["steps"], 0',
        TRAINING,
        lambda _: True,
    ),
    Mutation(
        "Ignite does not seed a step",
        "ignite/engine.py",
        "seeding.seed_step(task.cfg.seed, engine.state.iteration, idist.get_rank())",
        "pass",
        TRAINING,
        has(framework="ignite"),
    ),
    Mutation(
        "Lightning seeds each step alike",
        "lightning/engine.py",
        "seed_step(self.cfg.seed, self.progress.batches + len(self.losses) + 1,",
        "seed_step(self.cfg.seed, batch_idx,",
        TRAINING,
        has(framework="ignite"),  # a resumed run makes the same mistake: what shows is that the two differ
    ),
    Mutation(
        "a run that goes on begins with the highest learning rate",
        "shared/optim.py",
        "    set_rate(optimizer, progress)\n    return optimizer",
        "    return optimizer",
        TRAINING,
        lambda _: True,
    ),
    Mutation(
        "nobody waits for the first process at the end",
        "shared/signals.py",
        "code = self.agreement.reach(self.code) or self.agreement.reach(self.code)",
        "code = self.code",
        TOGETHER,
        lambda answers: answers["strategy"] != "single",
        slow=True,
        slow_disk_s=1.0,
    ),
    Mutation(
        "Ignite does not end MLflow's run",  # what TensorBoard leaves open Python closes with the process
        "ignite/loggers.py",
        "self.client.set_terminated(self.run_id, mlflow_run.ending(failed))",
        "pass",
        LOGGING,
        has(framework="ignite", loggers=["mlflow"]),
    ),
    Mutation(
        "Ignite begins a new average of the weights",
        "ignite/train.py",
        "            Checkpoint.load_objects(",
        '            for slot in saved["optimizer"]["state"].values(): slot.pop("average", 0)\n'
        "            Checkpoint.load_objects(",
        ALONE,
        has(framework="ignite"),
    ),
    Mutation(
        "a gradient that is not finite is applied",
        "shared/optim.py",
        "found_inf = (norm - norm != 0).float()",
        "found_inf = torch.zeros_like(norm)",
        TRAINING,
        has(precision="fp32"),  # in float16 the gradient scaler finds them as well
    ),
    Mutation(
        "a signal ends a run with the epoch",
        "shared/signals.py",
        "return bool(asked) and self.within_epoch()",
        "return False",
        ALONE,
        lambda _: True,
    ),
    Mutation(
        "an error loses the steps since the last validation",
        "shared/signals.py",
        "return alone and self.within_epoch() and self.progress.steps + 1 not in self.guard.skipped",
        "return False",
        ALONE,
        lambda _: True,
    ),
    Mutation(
        "a run without memory begins anew",
        "shared/speed.py",
        ', resume="auto")',
        ")",
        ALONE,
        lambda _: True,
    ),
    Mutation(
        "nobody looks at a checkpoint's seal",
        "shared/storage.py",
        'if (manifest["step"], seal) != (_step(path), _seal(manifest) if manifest["schema"] > 1 else None)',
        "if False",
        ALONE,
        lambda _: True,
    ),
    Mutation(
        "what is watched is never measured",
        "tasks/image-classification/objective.py",
        'MONITOR = "val/accuracy"',
        'MONITOR = "val/acc"',
        TRAINING,
        lambda _: True,
    ),
    Mutation(
        "an exported model takes only the batch that it was made with",
        "shared/export.py",
        "dynamic_shapes=batch",
        "dynamic_shapes=None",
        SERVING,
        has(serving="export"),
    ),
)
