"""Mistakes of one line that the matrix has to see, each with exactly the combinations in which it shows."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from mlscaffold.catalogue.questions import Answer, Answers
from tests.matrix.run import SAMPLES
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
STARTED = among(framework=FRAMEWORKS, strategy=("ddp",), launch=([], ["slurm"]))
MADE = among(
    task=("image-generation",), framework=FRAMEWORKS, strategy=("single",), serving=("none", "fastapi")
)
GAN = [{**answers, "generator": "gan"} for answers in MADE]
MASKS = among(task=("segmentation",), framework=FRAMEWORKS, strategy=("single",), serving=("none", "fastapi"))
SERVING = among(framework=FRAMEWORKS, strategy=("single",), serving=("none", "export"))
TEXTS, LANGUAGE = (
    among(task=(task,), framework=FRAMEWORKS, strategy=("single",))
    for task in ("text-classification", "language-modeling")
)
PRETRAINED = [{**answers, "pretrained": "transformers"} for answers in TEXTS]


def with_serving(over: Sequence[Answers], serving: str) -> list[Answers]:
    return [{**answers, "serving": serving} for answers in over]


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


def spread(over: Sequence[Answers]) -> Sequence[Answers]:
    """Every second combination: each answer meets, and of three questions each pair of answers."""
    axes = {name: list(dict.fromkeys(str(each[name]) for each in over)) for name in over[0]}
    if sum(len(values) > 1 for values in axes.values()) == 1:
        return over
    return [each for each in over if sum(axes[name].index(str(each[name])) for name in axes) % 2 == 0]


def everywhere(_: Answers) -> bool:
    return True


def has(**answers: Answer) -> Bites:
    return lambda combination: all(combination[name] == answer for name, answer in answers.items())


MUTATIONS = (
    Mutation(
        "the gradient scaler is not saved",
        "core/training/state.py",
        '"scaler": run.scaler.state_dict(),',
        '"scaler": {},',
        TRAINING,
        has(precision="fp16"),
    ),
    Mutation(
        "a run that goes on begins with its first epoch",
        "core/runs/progress.py",
        'self.epoch: int = saved["epoch"]',
        "self.epoch: int = 0",
        TRAINING,
        everywhere,
    ),
    Mutation(
        "a run that goes on begins its epoch anew",
        "core/runs/progress.py",
        '"samples": self.samples - self.window * self.taken',
        '"samples": 0',
        TRAINING,
        everywhere,
    ),
    Mutation(
        "Ignite does not seed a step",
        "frameworks/ignite/step/one.py",
        "        state.begin()\n",
        "",
        TRAINING,
        has(framework="ignite"),
    ),
    Mutation(
        "Lightning seeds steps by their number since the start",
        "frameworks/lightning/step/one.py",
        "self.state.begin()",
        "self.state.begin(batch_idx)",
        TRAINING,
        everywhere,  # a run of Ignite is compared with one of Lightning
    ),
    Mutation(
        "a run that goes on begins with the highest learning rate",
        "core/training/state.py",
        "        update.set_rate(run.progress)\n",
        "",
        TRAINING,
        everywhere,
    ),
    Mutation(
        "the training loss that was not logged yet is lost",
        "core/training/state.py",
        'loss.sum += torch.tensor(saved["losses"][name], dtype=torch.float64)',
        "pass",
        TRAINING,
        everywhere,
    ),
    Mutation(
        "what divides gradients is found anew",
        "core/training/optim.py",
        'self.guard.reference = state["reference"]',
        "pass",
        ALONE,
        everywhere,
    ),
    Mutation(
        "the best weights so far are forgotten",
        "core/runs/best.py",
        'self.kept = [(float(score), int(step)) for score, step in saved["best"]["kept"]]',
        "pass",
        ALONE,
        everywhere,
    ),
    Mutation(
        "whether less is better makes no difference",
        "core/runs/best.py",
        '1 if objective.directions[self.monitor] == "max" else -1',
        "1",
        ALONE,
        everywhere,
    ),
    Mutation(
        "a short last step weighs as a whole one",
        "core/training/optim.py",
        "torch.where(count > 0, 1 / count, 0)",
        f"torch.full_like(count, self.reference / {SAMPLES['image-classification']})",
        TOGETHER,
        everywhere,
    ),
    Mutation(
        "a batch counts as one sample",
        "core/training/module.py",
        "self.objective.loss(self.net, batch))\n        return total + self.tally.squeeze() * count",
        "self.objective.loss(self.net, batch))\n        return total + self.tally.squeeze()",
        TOGETHER,
        everywhere,
    ),
    Mutation(
        "what the optimizer knows is given to each process whole",
        "core/distributed/sharding.py",
        "    optimizer.register_load_state_dict_pre_hook(_shard_states)\n",
        "",
        TOGETHER,
        has(strategy="fsdp"),
    ),
    Mutation(
        "nobody waits for the first process, which saves",
        "core/training/state.py",
        "        processes.wait_for_first()",
        "        pass",
        TOGETHER,
        lambda answers: answers["strategy"] != "single",
    ),
    Mutation(
        "the number of a process on its node is taken for that in its run",
        "options/launch/slurm.py",
        '"RANK": "PROCID"',
        '"RANK": "LOCALID"',
        STARTED,
        has(launch=["slurm"]),
    ),
    Mutation(
        "what was said where processes meet is forgotten",
        "core/distributed/several.py",
        ' else "gloo", **own)',
        ' else "gloo")',
        STARTED,
        has(launch=["slurm"]),
    ),
    Mutation(
        "processes do not tell each other of a signal",
        "core/training/signals.py",
        "return self.agreement.reach(self.code, wait=wait)",
        "return self.code",
        TOGETHER,
        lambda answers: answers["strategy"] != "single",
        slow=True,
    ),
    Mutation(
        "MLflow's run is not ended",  # what TensorBoard leaves open Python closes with the process
        "options/tracking/loggers.py",
        "self.client.set_terminated(self.run_id, mlflow_run.ending(failed))",
        "pass",
        LOGGING,
        has(loggers=["mlflow"]),
    ),
    Mutation(
        "a new average of the weights begins",
        "core/training/optim.py",
        '        self.optimizer.load_state_dict(state["optimizer"])\n',
        '        for slot in state["optimizer"]["state"].values(): slot.pop("average", 0)\n'
        '        self.optimizer.load_state_dict(state["optimizer"])\n',
        ALONE,
        everywhere,
    ),
    Mutation(
        "Ignite measures the weights themselves in place of their averages",
        "frameworks/ignite/engine.py",
        "            state.update.swap()\n",
        "",
        ALONE,
        has(framework="ignite"),
    ),
    Mutation(
        "a gradient that is not finite is applied",
        "core/training/optim.py",
        "(~norm.isfinite()).float()",
        "torch.zeros_like(norm)",
        TRAINING,
        everywhere,  # in float16 the guard has the last word, too
    ),
    Mutation(
        "a signal ends a run with the epoch",
        "core/training/state.py",
        "        end(self.run.cfg, code, failed)\n        return False",
        "        end(self.run.cfg, 0, failed)\n        return False",
        ALONE,
        everywhere,
    ),
    Mutation(
        "an error loses the steps since the last validation",
        "core/training/state.py",
        "if at.steps and not at.validates and",
        "if False and",
        ALONE,
        everywhere,
    ),
    Mutation(
        "a lack of memory ends a run without a word of what to do",
        "core/training/run.py",
        "except torch.OutOfMemoryError as error",
        "except ZeroDivisionError as error",
        ALONE,
        everywhere,
    ),
    Mutation(
        "nobody looks whether a checkpoint is the one that was saved",
        "core/runs/files.py",
        '"" if saved == sha256(path) else "it is not what its manifest was written for"',
        '""',
        ALONE,
        everywhere,
    ),
    Mutation(
        "what is watched is never measured",
        "tasks/image-classification/settings.py",
        'monitor: str = "accuracy"',
        'monitor: str = "acc"',
        TRAINING,
        everywhere,
    ),
    Mutation(
        "masks and images move by numbers that no seed gives",
        "tasks/segmentation/data.py",
        "uniform(seeds, 4)",
        "torch.rand(len(seeds), 4)",
        MASKS,
        everywhere,
    ),
    Mutation(
        "images are generated from noise that no seed gives",
        "tasks/image-generation/data.py",
        "normal(seeds, pixels[0].numel() + 1)",
        "torch.randn(len(seeds), pixels[0].numel() + 1)",
        MADE,
        everywhere,
    ),
    Mutation(
        "a GAN is trained on noise that no seed gives",
        "tasks/image-generation/data.py",
        "normal(seeds, 2 * pixels[0].numel())",
        "torch.randn(len(seeds), 2 * pixels[0].numel())",
        GAN,
        everywhere,
    ),
    Mutation(
        "the second phase of a step keeps the learning rate of the start",
        "core/training/phases.py",
        "            update.set_rate(progress)\n",
        "            update.set_rate(progress)\n            break\n",
        GAN,
        everywhere,
    ),
    Mutation(
        "the service generates the image of another seed",
        "tasks/image-generation/requests.py",
        "asked.seed, about)",
        "asked.seed + 1, about)",
        MADE,
        has(serving="fastapi"),
    ),
    Mutation(
        "the service of masks sees images upside down",
        "tasks/segmentation/requests.py",
        'return {"images": pixels}, size',
        'return {"images": pixels[:, ::-1]}, size',
        MASKS,
        has(serving="fastapi"),
    ),
    Mutation(
        "an exported model takes only the batch that it was made with",
        "options/serving/exported.py",
        "dynamic_shapes=shapes",
        "dynamic_shapes=None",
        SERVING,
        has(serving="export"),
    ),
    Mutation(
        "what fills a text up is read as if it stood there",
        "tasks/text-classification/model.py",
        "torch.where(last > 0, hashes % (self.buckets - 1) + 1, 0)",
        "hashes % (self.buckets - 1) + 1",
        with_serving(TEXTS, "fastapi"),
        everywhere,
    ),
    Mutation(
        "the head of a pretrained model learns at another rate than the settings say",
        "options/pretrained/pretrained.py",
        "cfg.head_rate]",
        "cfg.head_rate / 2]",
        PRETRAINED,
        everywhere,
    ),
    Mutation(
        "an exported model takes only texts of the length that it was made with",
        "tasks/text-classification/inputs.py",
        '{"texts": {0: "batch", 1: "length"}',
        '{"texts": {0: "batch"}',
        with_serving(TEXTS, "export"),
        everywhere,
    ),
    Mutation(
        "where a window of tokens begins follows from no seed",
        "tasks/language-modeling/data.py",
        "uniform(seeds, 1)[:, 0]",
        "torch.from_numpy(np.random.random(len(seeds)))",
        LANGUAGE,
        everywhere,
    ),
    Mutation(
        "an exported language model takes only the number of tokens that it was made with",
        "tasks/language-modeling/inputs.py",
        '"tokens": {0: "batch", 1: "length"}',
        '"tokens": {0: "batch"}',
        with_serving(LANGUAGE, "export"),
        everywhere,
    ),
)
